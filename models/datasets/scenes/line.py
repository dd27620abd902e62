"""The line world: a fixed camera looks over a conveyor on which parcels pass and hands reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.backdrop import Ground, cloud_noise, shadow_outline
from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, Colour, stuff_id, thing_id, to_fixed
from models.datasets.scenes.categories import PARCELS
from models.datasets.scenes.hand import Hand, make_hand
from models.datasets.scenes.light import Lens, Light
from models.datasets.scenes.parcels import Parcel, make_parcel
from models.datasets.scenes.world import FRAMES_PER_SECOND, Frame, Thing

BELT = 0.36
"""Half width of the belt in metres."""
SIDE = 2.2
"""Parcels are on stage within this many metres left and right of the camera."""
FLOOR = -0.85


@dataclass(frozen=True)
class Carried:
    """A parcel that lies at (``x``, ``z``) on the belt at time 0 and moves with it."""

    thing: Thing
    parcel: Parcel
    x: float
    z: float
    yaw: float


@dataclass(frozen=True)
class Visit:
    """A hand that comes over the edge of the belt at ``start``, stays a moment and leaves; seconds and metres."""

    thing: Thing
    hand: Hand
    start: float
    duration: float
    target: tuple[float, float]
    yaw: float

    def position(self, time: float) -> tuple[float, float, float] | None:
        """Where the palm is, or None while the hand is away."""
        share = (time - self.start) / self.duration
        if not 0 < share < 1:
            return None
        reach = min(1.0, 2.6 * float(np.sin(np.pi * share)) / 1.6)
        back = 0.75 * (1 - reach)
        x = self.target[0] - back * float(np.sin(self.yaw))
        z = self.target[1] - back * float(np.cos(self.yaw))
        return x, 0.17 + 0.08 * (1 - reach), z


class LineWorld:
    """A conveyor for a sequence of ``length`` frames of ``size`` (width, height)."""

    def __init__(self, rng: np.random.Generator, length: int, size: tuple[int, int]) -> None:
        self._light = _lamp(rng)
        self._camera = _mounted_camera(rng, size)
        self._velocity = float(rng.uniform(0.15, 0.4)) * float(rng.choice([-1.0, 1.0]))
        self._belt_colour = _belt_colour(rng)
        self._seam = float(rng.uniform(0.35, 0.8))
        seconds = length / FRAMES_PER_SECOND
        self._things: list[Thing] = []
        self._carried = self._load_belt(rng, seconds)
        self._visits = self._plan_visits(rng, seconds)
        backdrop = _paint_hall(rng, self._camera, self._light, size, self._belt_colour)
        self._image, self._ids = backdrop.image, backdrop.ids
        self._belt = (self._ids == stuff_id("belt")).astype(np.uint8)
        top = int(np.flatnonzero(self._belt.any(axis=1))[0])
        self._ground = Ground(rng, size, self._camera, self._light, top, grain=float(rng.uniform(4, 9)), scale=260.0)
        # Last, because how many numbers it draws depends on the size, and nothing else shall.
        self._lens = Lens(size, rng, float(rng.uniform(0.85, 1.15)), float(rng.uniform(1.5, 4.5)),
                          float(rng.uniform(0.35, 0.75)), rain=0.0)  # fmt: skip

    def render(self, index: int, rng: np.random.Generator) -> Frame:
        """Paint frame ``index``; ``rng`` is the frame's own and moves only the sensor's noise."""
        time = index / FRAMES_PER_SECOND
        travel = self._velocity * time
        canvas = Canvas(self._image, self._ids)
        self._paint_seams(canvas, travel)
        items: list[tuple[float, Carried, tuple[float, float, float]]] = []
        shadows: list[NDArray[np.float64]] = []
        for carried in self._carried:
            x = carried.x + travel
            if abs(x) < SIDE:
                position = (x, 0.0, carried.z)
                items.append((float(self._camera.project(np.array(position))[1]), carried, position))
                shadows.append(shadow_outline(self._light, _footprint(carried, x), carried.parcel.extent[2]))
        hands = [(visit, place) for visit in self._visits if (place := visit.position(time)) is not None]
        shadows += [_hand_shadow(self._light, visit, place) for visit, place in hands]
        self._ground.finish(canvas, self._camera, (-travel, 0.0), shadows, self._belt)
        for _, carried, position in sorted(items, key=lambda item: -item[0]):
            segment_id = thing_id(carried.thing.track_id)
            carried.parcel.draw(canvas, self._camera, self._light, position, carried.yaw, time, segment_id)
        for visit, place in hands:
            segment_id = thing_id(visit.thing.track_id)
            visit.hand.draw(canvas, self._camera, self._light, place, visit.yaw, time, segment_id)
        return Frame(self._lens.apply(canvas.image, rng), canvas.ids, tuple(self._things))

    def _thing(self, category: str, attributes: dict[str, str]) -> Thing:
        self._things.append(Thing(len(self._things) + 1, category, attributes))
        return self._things[-1]

    def _load_belt(self, rng: np.random.Generator, seconds: float) -> list[Carried]:
        """Parcels in one or two lanes, from what is on stage at first to what comes on stage last."""
        carried = []
        way = self._velocity * seconds
        start, end = -SIDE - max(0.0, way), SIDE - min(0.0, way)
        lanes = ((-0.18, 0.05), (0.18, 0.05)) if rng.random() < 0.6 else ((0.0, 0.16),)
        spacing = float(rng.uniform(0.26, 0.4))
        for z, jitter in lanes:
            x = start + float(rng.uniform(0, 0.4))
            while x < end:
                category = str(PARCELS[int(rng.integers(len(PARCELS)))])
                damaged = bool(rng.random() < 0.35)
                parcel = make_parcel(rng, category, damaged)
                turn = float(rng.uniform(-0.5, 0.5))
                yaw = turn + float(rng.uniform(-np.pi, np.pi)) if category == "gear" else turn
                thing = self._thing(category, {"condition": "damaged" if damaged else "intact"})
                carried.append(Carried(thing, parcel, x, z + float(rng.uniform(-jitter, jitter)), yaw))
                x += spacing + float(rng.uniform(0.0, 0.25))
        return carried

    def _plan_visits(self, rng: np.random.Generator, seconds: float) -> list[Visit]:
        visits = []
        at = float(rng.uniform(-2.0, 1.5))
        while at < seconds:
            duration = float(rng.uniform(2.2, 4.0))
            from_front = bool(rng.random() < 0.65)
            target = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.15, 0.2)))
            yaw = float(rng.uniform(-0.5, 0.5)) + (0.0 if from_front else np.pi)
            hand = make_hand(rng, rise=0.16 if from_front else 0.9)
            visits.append(Visit(self._thing("hand", {}), hand, at, duration, target, yaw))
            at += duration + float(rng.uniform(0.3, 3.0))
        return visits

    def _paint_seams(self, canvas: Canvas, travel: float) -> None:
        """The joints of the belt, which show that it moves."""
        first = np.ceil((-SIDE - travel) / self._seam) * self._seam + travel
        _, height, z = self._camera.position
        hidden = 0.035 * max(0.0, -z - BELT) / height + 0.01
        red, green, blue = self._belt_colour
        dark = (0.72 * red, 0.72 * green, 0.72 * blue)
        for x in np.arange(first, SIDE, self._seam):
            quad = [(x, 0.0, hidden - BELT), (x + 0.012, 0.0, hidden - BELT), (x + 0.012, 0.0, BELT), (x, 0.0, BELT)]
            pixels, _ = self._camera.project(np.array(quad))
            canvas.convex(to_fixed(pixels), dark, stuff_id("belt"))


def _footprint(carried: Carried, x: float) -> NDArray[np.float64]:
    half_width, half_length, _ = carried.parcel.extent
    if carried.parcel.is_round:
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        return np.stack([x + half_width * np.cos(angles), carried.z + half_width * np.sin(angles)], axis=1)
    c, s = np.cos(carried.yaw), np.sin(carried.yaw)
    corners = np.array([[half_width, half_length], [half_width, -half_length], [-half_width, -half_length],
                        [-half_width, half_length]])  # fmt: skip
    return np.asarray(corners @ np.array([[c, -s], [s, c]]) + np.array([x, carried.z]))


def _hand_shadow(light: Light, visit: Visit, place: tuple[float, float, float]) -> NDArray[np.float64]:
    back = np.array([np.sin(visit.yaw), np.cos(visit.yaw)])
    side = np.array([back[1], -back[0]])
    palm = np.array([place[0], place[2]])
    outline = np.array([palm + 0.1 * back, palm + 0.05 * side, palm - 0.05 * side, palm - 0.7 * back])
    return shadow_outline(light, outline, place[1])[4:]


def _mounted_camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    """A camera beside the belt, or steeply over it, looking at its middle."""
    width, height = size
    pitch = float(rng.uniform(0.5, 0.85)) if rng.random() < 0.75 else float(rng.uniform(0.95, 1.15))
    distance = float(rng.uniform(1.15, 1.5))
    aim = float(rng.uniform(0.0, 0.12))
    return Camera(
        position=(0.0, distance * float(np.sin(pitch)) + aim, -distance * float(np.cos(pitch))),
        pitch=pitch,
        focal=float(rng.uniform(0.85, 1.0)) * min(width, height * 4 / 3),
        centre=(width / 2, height / 2),
        yaw=float(rng.uniform(-0.12, 0.12)),
    )


def _lamp(rng: np.random.Generator) -> Light:
    gains = ((1.0, 1.0, 1.0), (1.06, 1.0, 0.88), (0.92, 0.98, 1.06), (0.72, 0.72, 0.74), (1.1, 1.1, 1.08))
    tilt = rng.uniform(-0.6, 0.6, 2)
    direction = np.array([tilt[0], 1.0, tilt[1] - 0.25])
    x, y, z = (direction / np.linalg.norm(direction)).tolist()
    return Light((x, y, z), 0.62, 0.42, gains[int(rng.integers(len(gains)))], shadow=float(rng.uniform(0.45, 0.68)))


def _belt_colour(rng: np.random.Generator) -> Colour:
    colours = ((52, 58, 62), (38, 84, 66), (40, 66, 104), (92, 96, 98), (70, 62, 58))
    r, g, b = (np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.85, 1.2)).tolist()
    return r, g, b


def _paint_hall(rng: np.random.Generator, camera: Camera, light: Light, size: tuple[int, int], belt: Colour) -> Canvas:
    """Everything that stands still: wall, floor, the conveyor's rails, rollers and legs, and the empty belt."""
    width, height = size
    paint = np.array(((206, 206, 198), (176, 190, 196), (200, 188, 164), (150, 160, 158))[int(rng.integers(4))])
    concrete = np.array(((146, 142, 136), (120, 124, 126), (160, 148, 128), (98, 112, 104))[int(rng.integers(4))])
    steel = np.array(((150, 156, 164), (196, 170, 60), (70, 100, 150), (190, 194, 196))[int(rng.integers(4))])
    back = float(rng.uniform(0.75, 1.5))
    canvas = Canvas(np.zeros((height, width, 3), np.uint8), stuff_id("wall"))
    far = 6.0

    def quad(name: str, colour: NDArray[np.floating], corners: list[tuple[float, float, float]], shade: float) -> None:
        pixels, _ = camera.project(np.array(corners))
        canvas.convex(to_fixed(pixels), light.colour(tuple((colour * shade).tolist()), 1.0), stuff_id(name))

    def along(
        name: str, colour: NDArray[np.floating], a: tuple[float, float], b: tuple[float, float], shade: float
    ) -> None:
        """A strip along the belt between two edges given as (y, z)."""
        corners = [(-far, *a), (far, *a), (far, *b), (-far, *b)]
        quad(name, colour, corners, shade)

    along("wall", paint, (FLOOR, back), (4.0, back), 0.92)
    band = float(rng.uniform(-0.3, 0.1))
    along(
        "wall", np.array([210, 170, 40]) if rng.random() < 0.5 else paint * 0.7, (band, back), (band + 0.09, back), 0.9
    )
    for x in np.arange(-far, far, float(rng.uniform(0.5, 1.1))):
        quad("wall", paint, [(x, FLOOR, back), (x + 0.012, FLOOR, back), (x + 0.012, 4.0, back), (x, 4.0, back)], 0.68)
    along("floor", concrete, (FLOOR, back), (FLOOR, -4.0), 0.95)
    along("floor", np.array([222, 188, 40]), (FLOOR, -0.75), (FLOOR, -0.85), 0.95)
    along("floor", concrete * 0.55, (FLOOR, -BELT + 0.1), (FLOOR, BELT + 0.25), 0.9)
    leg = float(rng.uniform(0.9, 1.4))
    for x in np.arange(-3 * leg + 0.3, far, leg):
        for z in (BELT, -BELT):
            quad("rail", steel, [(x, FLOOR, z), (x + 0.07, FLOOR, z), (x + 0.07, 0.0, z), (x, 0.0, z)], 0.62)
    along("rail", steel, (-0.14, BELT + 0.07), (0.03, BELT + 0.07), 0.8)
    along("belt", np.array(belt), (0.0, -BELT), (0.0, BELT), 1.0)
    along("rail", steel, (0.0, BELT), (0.035, BELT), 0.7)
    along("rail", steel, (0.035, BELT), (0.035, BELT + 0.07), 1.05)
    along("rail", steel, (0.035, -BELT), (0.035, -BELT - 0.07), 1.05)
    along("rail", steel, (0.035, -BELT - 0.07), (-0.14, -BELT - 0.07), 0.78)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    for x in np.arange(-3.0, 3.0, 0.16):
        for radius, shade in ((0.042, 0.45), (0.03, 1.0), (0.01, 0.4)):
            ring = [(x + radius * float(np.cos(a)), -0.055 + radius * float(np.sin(a)), -BELT - 0.07) for a in angles]
            quad("rail", np.array([176, 180, 184]), ring, shade)
    soft = 0.03 * cloud_noise(rng, size, (3, 6, 24, 80))
    still = canvas.image * (1 + soft[..., None])
    canvas.image = np.clip(np.where((canvas.ids == stuff_id("belt"))[..., None], canvas.image, still), 0, 255).astype(
        np.uint8
    )
    return canvas
