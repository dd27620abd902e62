"""Walking pedestrians and cyclists: skeletons of rounded limbs that move with time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, Colour, to_fixed
from models.datasets.scenes.light import Light
from models.datasets.scenes.mesh import Point, turned

SKIN: tuple[Colour, ...] = ((236, 188, 160), (208, 152, 116), (150, 100, 70), (92, 60, 44))
HAIR: tuple[Colour, ...] = ((40, 28, 20), (90, 60, 30), (190, 150, 90), (120, 118, 116), (20, 20, 22))
CLOTHES: tuple[Colour, ...] = (
    (190, 40, 44), (40, 80, 160), (230, 226, 216), (40, 120, 80), (230, 170, 50), (120, 60, 130), (60, 62, 70),
    (90, 170, 190), (210, 110, 150),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((40, 46, 70), (54, 50, 46), (30, 30, 34), (110, 100, 84), (70, 90, 120))
SHOE = (36.0, 30.0, 28.0)
TYRE = (24.0, 24.0, 26.0)
WHEEL_COLOURS = np.array([TYRE, (112.0, 114.0, 118.0), (60.0, 60.0, 64.0)])


def _wheel_rings() -> NDArray[np.float64]:
    """Tyre, blurred spokes and hub of both wheels of a bicycle: [wheel, ring, corner, 3] in the local frame."""
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    circle = np.stack([0 * angles, np.sin(angles), np.cos(angles)], axis=1)
    hubs = np.array([(0.0, 0.34, -0.52), (0.0, 0.34, 0.52)])
    return np.asarray(hubs[:, None, None] + np.array([0.34, 0.28, 0.05])[:, None, None] * circle)


WHEEL_RINGS = _wheel_rings()


@dataclass(frozen=True)
class Limb:
    """A rounded limb between two points (local frame, metres) with a radius at each end."""

    start: Point
    end: Point
    radii: tuple[float, float]
    colour: Colour


@dataclass(frozen=True)
class Person:
    """Looks and size of a person; ``pace`` is strides per second and ``phase`` where the stride starts."""

    height: float
    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    pace: float
    phase: float
    long_hair: bool
    bag: Colour | None


def make_person(rng: np.random.Generator) -> Person:
    """A person with clothes, hair and stride of their own."""

    def pick(colours: tuple[Colour, ...]) -> Colour:
        return colours[int(rng.integers(len(colours)))]

    return Person(
        height=float(rng.uniform(1.55, 1.9)),
        skin=pick(SKIN),
        hair=pick(HAIR),
        top=pick(CLOTHES),
        trousers=pick(TROUSERS),
        pace=float(rng.uniform(0.8, 1.05)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        long_hair=bool(rng.random() < 0.4),
        bag=pick(CLOTHES) if rng.random() < 0.4 else None,
    )


def make_cyclist(rng: np.random.Generator) -> Cyclist:
    """A person on a bicycle of some colour."""
    frame = tuple(float(v) for v in rng.uniform(20, 230, 3))
    return Cyclist(make_person(rng), (frame[0], frame[1], frame[2]))


@dataclass(frozen=True)
class Pedestrian:
    """A person on foot."""

    person: Person

    @property
    def extent(self) -> tuple[float, float, float]:
        """Half the width, half the length, and the height in metres."""
        return 0.25, 0.2, self.person.height

    def draw(
        self, canvas: Canvas, camera: Camera, light: Light, position: Point, yaw: float, time: float, segment_id: int
    ) -> None:
        """Paint the person walking towards ``yaw``; ``time`` in seconds moves the limbs."""
        draw_limbs(canvas, camera, light, _walking(self.person, time), position, turned(yaw), segment_id)


@dataclass(frozen=True)
class Cyclist:
    """A person on a bicycle; both are one thing."""

    person: Person
    frame: Colour

    @property
    def extent(self) -> tuple[float, float, float]:
        """Half the width, half the length, and the height in metres."""
        return 0.3, 0.85, 1.75

    def draw(
        self, canvas: Canvas, camera: Camera, light: Light, position: Point, yaw: float, time: float, segment_id: int
    ) -> None:
        """Paint rider and bicycle riding towards ``yaw``; ``time`` in seconds turns the pedals."""
        pixels, depth = camera.project(WHEEL_RINGS @ turned(yaw).T + np.array(position))
        far = float(depth.mean())
        for wheel in to_fixed(pixels):
            for ring, colour in zip(wheel, light.colours(WHEEL_COLOURS, far), strict=True):
                canvas.convex(ring, colour, segment_id)
            # From the front or the back a wheel is as wide as its tyre.
            canvas.line(wheel[0, [5, 15]], 0.05 * camera.focal / far, light.colour(TYRE, far), segment_id)
        limbs = _riding(self.person, self.frame, time)
        draw_limbs(canvas, camera, light, limbs, position, turned(yaw), segment_id)


def draw_limbs(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    limbs: list[Limb],
    position: Point,
    rotation: NDArray[np.float64],
    segment_id: int,
) -> None:
    """Paint limbs, the farthest first."""
    ends = np.array([(limb.start, limb.end) for limb in limbs]) @ rotation.T + np.array(position)
    pixels, depth = camera.project(ends)
    order = np.argsort(-depth.mean(axis=1), kind="stable")
    radii = np.array([limb.radii for limb in limbs]) * (camera.focal / depth)
    shade = light.ambient + 0.55 * light.diffuse
    colours = light.colours(np.array([limb.colour for limb in limbs]) * shade, float(depth.mean()))
    canvas.capsules(
        pixels[order, 0], pixels[order, 1], np.maximum(radii[order], 0.5), [colours[i] for i in order], segment_id
    )


def _bend(root: NDArray[np.float64], length: float, swing: float, bend: float) -> tuple[Point, Point]:
    """Joint and end of a two-part limb that hangs from ``root``, swung forward by ``swing`` (rad)."""
    joint = root + length * np.array([0.0, -np.cos(swing), np.sin(swing)])
    end = joint + length * np.array([0.0, -np.cos(swing + bend), np.sin(swing + bend)])
    return _point(joint), _point(end)


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def _head(person: Person, neck: Point, lean: float) -> list[Limb]:
    x, y, z = neck
    size = 0.065 * person.height
    centre = (x, y + 1.55 * size, z + lean)
    hair_end = (x, y + (0.4 if person.long_hair else 1.6) * size, z + lean - 0.55 * size)
    return [
        Limb((x, y, z), centre, (0.5 * size, 0.6 * size), person.skin),
        Limb((x, y + 2.15 * size, z + lean - 0.35 * size), hair_end, (0.95 * size, 0.9 * size), person.hair),
        Limb((x, y + 1.2 * size, z + lean + 0.1 * size), centre, (0.72 * size, 0.92 * size), person.skin),
    ]


def _walking(person: Person, time: float) -> list[Limb]:
    h = person.height
    stride = np.sin(2 * np.pi * person.pace * time + person.phase)
    hip, shoulder, leg, arm = 0.52 * h, 0.82 * h, 0.255 * h, 0.17 * h
    limbs = []
    for side in (-1.0, 1.0):
        swing = 0.5 * side * stride
        knee, foot = _bend(np.array([side * 0.055 * h, hip, 0.0]), leg, swing, -0.55 * max(0.0, -swing) - 0.12)
        limbs += [
            Limb((side * 0.055 * h, hip, 0.0), knee, (0.06 * h, 0.042 * h), person.trousers),
            Limb(knee, foot, (0.042 * h, 0.03 * h), person.trousers),
            Limb(foot, (foot[0], foot[1] + 0.005, foot[2] + 0.09 * h), (0.028 * h, 0.022 * h), SHOE),
        ]
        elbow, hand = _bend(np.array([side * 0.125 * h, shoulder - 0.02 * h, 0.0]), arm, -0.8 * swing, 0.45)
        limbs += [
            Limb((side * 0.115 * h, shoulder - 0.015 * h, 0.0), elbow, (0.038 * h, 0.03 * h), person.top),
            Limb(elbow, hand, (0.028 * h, 0.022 * h), person.top),
            Limb(hand, hand, (0.026 * h, 0.026 * h), person.skin),
        ]
    for x in (-0.04 * h, 0.04 * h):
        limbs.append(Limb((x, hip, 0.0), (1.4 * x, shoulder - 0.03 * h, 0.0), (0.072 * h, 0.07 * h), person.top))
    if person.bag is not None:
        limbs.append(Limb((0.0, hip + 0.1 * h, -0.1 * h), (0.0, shoulder - 0.06 * h, -0.09 * h), (0.08 * h,) * 2,
                          person.bag))  # fmt: skip
    return limbs + _head(person, (0.0, shoulder + 0.01 * h, 0.0), 0.0)


def _riding(person: Person, frame: Colour, time: float) -> list[Limb]:
    h = person.height
    turn = 2 * np.pi * person.pace * time + person.phase
    seat, shoulder = np.array([0.0, 0.95, -0.2]), np.array([0.0, 0.95 + 0.31 * h * 0.94, 0.12])
    crank, bar = (0.0, 0.32, -0.02), (0.0, 0.98, 0.42)
    steel = 0.026
    limbs = [
        Limb((0.0, 0.34, -0.52), crank, (steel, steel), frame),
        Limb(crank, (0.0, 0.86, -0.18), (steel, steel), frame),
        Limb(crank, (0.0, 0.8, 0.34), (steel, steel), frame),
        Limb((0.0, 0.82, -0.17), (0.0, 0.82, 0.34), (steel, steel), frame),
        Limb((0.0, 0.34, 0.52), bar, (steel, steel), frame),
        Limb((-0.26, 0.98, 0.4), (0.26, 0.98, 0.4), (steel, steel), (40.0, 40.0, 42.0)),
        Limb((0.0, 0.88, -0.28), (0.0, 0.88, -0.1), (0.045, 0.03), (30.0, 26.0, 26.0)),
    ]
    for side in (-1.0, 1.0):
        angle = turn + (0.0 if side < 0 else np.pi)
        pedal = np.array([side * 0.12, 0.32 + 0.16 * np.sin(angle), -0.02 + 0.16 * np.cos(angle)])
        hip = seat + np.array([side * 0.08, 0.02, 0.0])
        knee = (hip + pedal) / 2 + np.array([side * 0.02, 0.1, 0.2])
        hand = np.array([side * 0.24, 1.0, 0.4])
        elbow = (shoulder + hand) / 2 + np.array([side * 0.14, -0.06, -0.02])
        limbs += [
            Limb(_point(hip), _point(knee), (0.06 * h, 0.045 * h), person.trousers),
            Limb(_point(knee), _point(pedal), (0.045 * h, 0.03 * h), person.trousers),
            Limb(_point(pedal), _point(pedal + np.array([0, 0, 0.12])), (0.03 * h, 0.024 * h), SHOE),
            Limb(_point(shoulder + np.array([side * 0.17, -0.03, 0])), _point(elbow), (0.04 * h, 0.03 * h), person.top),
            Limb(_point(elbow), _point(hand), (0.03 * h, 0.024 * h), person.skin),
        ]
    for x in (-0.07, 0.07):
        start, end = seat + np.array([x, 0.03, 0]), shoulder + np.array([1.3 * x, -0.02, 0])
        limbs.append(Limb(_point(start), _point(end), (0.078 * h, 0.072 * h), person.top))
    head = _head(person, _point(shoulder + np.array([0.0, 0.04, 0.06])), 0.04)
    helmet = Limb(
        (0.0, head[1].start[1] + 0.03, head[1].start[2]), (0.0, head[1].start[1] + 0.02, head[1].start[2] + 0.08),
        (0.066 * h, 0.06 * h), frame,
    )  # fmt: skip
    return [*limbs, *head, helmet]
