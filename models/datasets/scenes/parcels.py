"""What lies on the belt: boxes, bottles, cans and gears, intact or visibly damaged.

Local frame as everywhere: the origin lies on the belt under the middle. Damage is on the side towards -z and on top,
which is where the camera looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, Colour
from models.datasets.scenes.light import Light
from models.datasets.scenes.mesh import Mesh, Point, turned

INK = (34.0, 26.0, 24.0)
CARDBOARD: tuple[Colour, ...] = ((190, 148, 98), (206, 170, 122), (168, 124, 80), (222, 214, 200), (150, 110, 72))
BRIGHT: tuple[Colour, ...] = (
    (204, 34, 40), (30, 92, 180), (40, 140, 70), (240, 190, 30), (236, 236, 232), (230, 110, 30), (120, 50, 140),
    (30, 150, 160),
)  # fmt: skip
GLASS: tuple[Colour, ...] = ((36, 110, 60), (110, 62, 24), (96, 160, 190), (190, 206, 206), (60, 60, 66))
STEEL: tuple[Colour, ...] = ((168, 172, 178), (190, 160, 90), (112, 116, 124), (150, 110, 84))

SECTORS = 16

Radius = Callable[[float, float], float]


@dataclass(frozen=True)
class Parcel:
    """One parcel: half its width and length, and its height in metres."""

    mesh: Mesh
    extent: tuple[float, float, float]
    is_round: bool = True

    def draw(
        self, canvas: Canvas, camera: Camera, light: Light, position: Point, yaw: float, time: float, segment_id: int
    ) -> None:
        """Paint the parcel where it lies; ``time`` changes nothing."""
        self.mesh.draw(canvas, camera, light, position, turned(yaw), segment_id)


def make_parcel(rng: np.random.Generator, category: str, damaged: bool) -> Parcel:
    """A parcel of one of the categories ``box``, ``bottle``, ``can`` or ``gear``."""
    makers = {"box": _box, "bottle": _bottle, "can": _can, "gear": _gear}
    return makers[category](rng, damaged)


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    r, g, b = np.clip(np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.85, 1.12), 6, 252).tolist()
    return r, g, b


def _times(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _box(rng: np.random.Generator, damaged: bool) -> Parcel:
    w, d, h = float(rng.uniform(0.09, 0.14)), float(rng.uniform(0.08, 0.12)), float(rng.uniform(0.1, 0.22))
    card, tape = _pick(rng, CARDBOARD), _pick(rng, ((214, 190, 140), (226, 226, 220), (190, 60, 50)))
    mesh = Mesh()
    corners = {(x, y, z): (x * w, y * h, z * d) for x in (-1, 1) for y in (0, 1) for z in (-1, 1)}
    crushed = 1 if rng.random() < 0.5 else -1
    if damaged:
        depth = rng.uniform(0.3, 0.5)
        corners[crushed, 1, -1] = (crushed * w * (1 - depth), h * (1 - 0.75 * depth), -d * (1 - depth))
    inside = (0.0, h / 2, 0.0)
    for axis in range(3):
        for level in ((-1, 1), (0, 1), (-1, 1))[axis]:
            keys = [key for key in corners if key[axis] == level]
            a, b, c, e = sorted(keys)
            mesh.face([corners[key] for key in (a, b, e, c)], card, inside, convex=not damaged)
    top, front = h + 0.001, -d - 0.001
    torn = 0.0 if damaged else crushed * w
    mesh.face([(-crushed * w, top, -0.02), (torn, top, -0.02), (torn, top, 0.02), (-crushed * w, top, 0.02)], tape,
              inside)  # fmt: skip
    for side in (-1, 1):
        if not (damaged and side == crushed):
            x = side * (w + 0.001)
            mesh.face([(x, h, -0.02), (x, h, 0.02), (x, 0.7 * h, 0.02), (x, 0.7 * h, -0.02)], tape, inside)
    label = -crushed * w * 0.5
    _plate(mesh, label - 0.32 * w, 0.3 * h, label + 0.32 * w, 0.68 * h, front, (238.0, 238.0, 232.0), inside)
    for k in range(5):
        x = label - 0.26 * w + 0.11 * w * k
        _plate(mesh, x, 0.36 * h, x + 0.05 * w, 0.6 * h, front - 0.001, INK, inside)
    if damaged:
        _tear(mesh, rng, crushed * w * 0.3, 0.28 * h, (0.3 * w, 0.2 * h), front, inside)
        _tear(mesh, rng, crushed * w * 0.1, 0.3 * d, (0.4 * w, 0.3 * d), top, inside, lies_flat=True)
        _crush(mesh, corners, (crushed, 1, -1), card, inside)
    return Parcel(mesh, (w, d, h), is_round=False)


def _plate(mesh: Mesh, x0: float, y0: float, x1: float, y1: float, z: float, colour: Colour, inside: Point) -> None:
    mesh.face([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], colour, inside)


def _tear(
    mesh: Mesh,
    rng: np.random.Generator,
    across: float,
    up: float,
    size: tuple[float, float],
    level: float,
    inside: Point,
    lies_flat: bool = False,
) -> None:
    """A jagged hole with a pale torn edge, on the upright face at z = ``level`` or on the flat one at y = ``level``."""
    angles = np.linspace(0, 2 * np.pi, 13, endpoint=False)
    jag = np.where(np.arange(13) % 2 == 0, 1.0, 0.55) * rng.uniform(0.8, 1.2, 13)
    for scale, colour, lift in ((1.25, (236.0, 222.0, 196.0), 0.002), (0.95, INK, 0.003)):
        a = across + scale * size[0] * jag * np.cos(angles)
        b = up + scale * size[1] * jag * np.sin(angles)
        if lies_flat:
            hole = [(x, level + lift, z) for x, z in zip(a.tolist(), b.tolist(), strict=True)]
        else:
            hole = [(x, y, level - lift) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        mesh.face(hole, colour, inside, convex=False)


def _crush(
    mesh: Mesh, corners: dict[tuple[int, int, int], Point], tip: tuple[int, int, int], colour: Colour, inside: Point
) -> None:
    """Dark facets on the three faces that meet in a corner which was pushed in."""
    x, y, z = tip
    neighbours = [np.array(corners[key]) for key in ((-x, y, z), (x, 1 - y, z), (x, y, -z))]
    point = np.array(corners[tip])
    ends = [point + 0.6 * (neighbour - point) for neighbour in neighbours]
    for first, second, tone in ((0, 2, 0.72), (0, 1, 0.55), (1, 2, 0.62)):
        facet = [(float(a), float(b), float(c)) for a, b, c in (point, ends[first], ends[second])]
        mesh.face(facet, _times(colour, tone), inside)


def _revolve(
    mesh: Mesh, profile: list[tuple[float, float, Colour]], gloss: float, radius: Radius | None = None
) -> None:
    """A body of revolution: ``profile`` gives radius, height and the colour from there up to the next entry.

    ``radius(angle, y)`` scales it where it is dented; a narrow highlight of strength ``gloss`` makes it shine.
    """
    angles = np.linspace(0, 2 * np.pi, SECTORS + 1)

    def point(angle: float, r: float, y: float) -> Point:
        reach = r * (radius(angle, y) if radius is not None else 1.0)
        return reach * float(np.cos(angle)), y, reach * float(np.sin(angle))

    for (r0, y0, colour), (r1, y1, _) in pairwise(profile):
        for a, b in pairwise(angles):
            shine = 1 + gloss * float(np.exp(-((((a + b) / 2 - 1.28 * np.pi) / 0.25) ** 2)))
            quad = [point(a, r0, y0), point(b, r0, y0), point(b, r1, y1), point(a, r1, y1)]
            if r0 > r1 * 0.2:
                mesh.face(quad, _times(colour, shine), (0.0, (y0 + y1) / 2 - abs(r0 - r1) * 3, 0.0), convex=False)
    r, y, colour = profile[-1]
    if r > 0:
        mesh.face([point(a, r, y) for a in angles[:-1]], colour, (0.0, y - 0.1, 0.0), convex=False)


def _dent(rng: np.random.Generator, height: float, depth: float) -> Radius:
    """A dent on the side towards the camera at about half height."""
    at, spread = rng.uniform(0.4, 0.6) * height, rng.uniform(0.14, 0.2) * height
    middle = -np.pi / 2 + rng.uniform(-0.5, 0.5)

    def radius(angle: float, y: float) -> float:
        turn = (angle - middle + np.pi) % (2 * np.pi) - np.pi
        return float(1 - depth * np.exp(-((turn / 0.9) ** 2) - ((y - at) / spread) ** 2))

    return radius


def _can(rng: np.random.Generator, damaged: bool) -> Parcel:
    r, h = float(rng.uniform(0.045, 0.062)), float(rng.uniform(0.13, 0.19))
    paint, stripe, metal = _pick(rng, BRIGHT), _pick(rng, BRIGHT), (196.0, 200.0, 204.0)
    mesh = Mesh()
    dent = _dent(rng, h, 0.55) if damaged else None
    levels = np.linspace(0.06, 0.9, 7) * h
    profile: list[tuple[float, float, Colour]] = [(0.88 * r, 0.0, metal)]
    for k, y in enumerate(levels.tolist()):
        profile.append((r, y, stripe if k in (2, 3) else paint))
    profile[-1] = (r, float(levels[-1]), metal)
    profile += [(0.9 * r, h, _times(metal, 1.12))]
    _revolve(mesh, profile, 0.55, dent)
    ring = np.linspace(0, 2 * np.pi, SECTORS, endpoint=False)
    for scale, colour in ((0.78, (150.0, 154.0, 158.0)), (0.3, (110.0, 112.0, 116.0))):
        lid = [(scale * r * float(np.cos(a)), h + 0.001, scale * r * float(np.sin(a))) for a in ring]
        mesh.face(lid, colour, (0.0, h - 0.1, 0.0))
    if damaged:
        _crack(mesh, rng, r * 0.8, 0.25 * h, 0.72 * h, (26.0, 22.0, 22.0))
        _tear(mesh, rng, 0.0, -0.25 * r, (0.42 * r, 0.4 * r), h, (0.0, 0.0, 0.0), lies_flat=True)
    return Parcel(mesh, (r, r, h))


def _bottle(rng: np.random.Generator, damaged: bool) -> Parcel:
    r, h = float(rng.uniform(0.042, 0.056)), float(rng.uniform(0.23, 0.31))
    glass, label, cap = _pick(rng, GLASS), _pick(rng, BRIGHT), _pick(rng, BRIGHT)
    mesh = Mesh()
    profile: list[tuple[float, float, Colour]] = [
        (0.92 * r, 0.0, glass), (r, 0.03 * h, glass), (r, 0.14 * h, label), (r, 0.24 * h, label), (r, 0.36 * h, label),
        (r, 0.47 * h, glass), (r, 0.58 * h, glass), (0.8 * r, 0.68 * h, glass), (0.42 * r, 0.78 * h, glass),
        (0.34 * r, 0.89 * h, glass if damaged else cap),
    ]  # fmt: skip
    profile += [(0.38 * r, 0.93 * h, _times(glass, 0.5))] if damaged else [(0.44 * r, 0.9 * h, cap), (0.44 * r, h, cap)]
    _revolve(mesh, profile, 1.1, _dent(rng, h, 0.5) if damaged else None)
    inside = (0.0, 0.3 * h, 0.0)
    if not damaged:
        _plate(mesh, -0.45 * r, 0.24 * h, 0.45 * r, 0.38 * h, -r * 1.0, (240.0, 238.0, 230.0), inside)
    else:
        _crack(mesh, rng, r * 0.85, 0.16 * h, 0.66 * h, (244.0, 246.0, 246.0))
    return Parcel(mesh, (r, r, h))


def _crack(mesh: Mesh, rng: np.random.Generator, r: float, low: float, high: float, colour: Colour) -> None:
    """A zigzag crack up the side towards the camera."""
    ys = np.linspace(low, high, 7)
    xs = np.where(np.arange(7) % 2 == 0, -0.3, 0.35) * r * rng.uniform(0.6, 1.2, 7)
    wide = 0.09 * r
    for x0, y0, x1, y1 in zip(xs, ys, xs[1:], ys[1:], strict=False):
        z0, z1 = -float(np.sqrt(r**2 - x0**2)), -float(np.sqrt(r**2 - x1**2))
        quad = [(float(x0 - wide), float(y0), z0), (float(x0 + wide), float(y0), z0), (float(x1 + wide), float(y1), z1),
                (float(x1 - wide), float(y1), z1)]  # fmt: skip
        mesh.face(quad, colour, (0.0, (low + high) / 2, 0.0))


def _gear(rng: np.random.Generator, damaged: bool) -> Parcel:
    r, thick = float(rng.uniform(0.085, 0.125)), float(rng.uniform(0.03, 0.055))
    teeth, metal = int(rng.integers(10, 17)), _pick(rng, STEEL)
    missing = (
        set(((np.arange(int(rng.integers(2, 4))) + int(rng.integers(teeth))) % teeth).tolist()) if damaged else set()
    )
    outline: list[tuple[float, float]] = []
    for tooth in range(teeth):
        start = 2 * np.pi * tooth / teeth
        for share, reach in ((0.0, 0.8), (0.22, 0.8), (0.34, 1.0), (0.66, 1.0), (0.78, 0.8)):
            cut = 0.74 if tooth in missing else reach
            angle = start + 2 * np.pi / teeth * share
            outline.append((cut * r * float(np.cos(angle)), cut * r * float(np.sin(angle))))
    mesh = Mesh()
    for (x0, z0), (x1, z1) in zip(outline, [*outline[1:], outline[0]], strict=True):
        mid = (0.6 * (x0 + x1) / 2, thick / 2, 0.6 * (z0 + z1) / 2)
        mesh.face([(x0, 0.0, z0), (x1, 0.0, z1), (x1, thick, z1), (x0, thick, z0)], _times(metal, 0.72), mid)
    below = (0.0, -1.0, 0.0)
    mesh.face([(x, thick, z) for x, z in outline], metal, below, convex=False)

    def disc(radius: float, x: float, z: float, colour: Colour) -> None:
        angles = np.linspace(0, 2 * np.pi, SECTORS, endpoint=False)
        ring = [(x + radius * float(np.cos(a)), thick + 0.001, z + radius * float(np.sin(a))) for a in angles]
        mesh.face(ring, colour, below)

    disc(0.62 * r, 0, 0, _times(metal, 0.86))
    for k in range(5):
        angle = 2 * np.pi * k / 5
        disc(0.1 * r, 0.44 * r * float(np.cos(angle)), 0.44 * r * float(np.sin(angle)), (46.0, 46.0, 50.0))
    disc(0.3 * r, 0, 0, _times(metal, 1.1))
    disc(0.17 * r, 0, 0, (30.0, 30.0, 34.0))
    if damaged:
        turn = 2 * np.pi * (min(missing) + 1) / teeth
        steps = np.linspace(0.2, 0.76, 6) * r
        for inner, outer, bend in zip(steps, steps[1:], (0.16, -0.16) * 3, strict=False):
            angles = ((inner, turn - bend / 2), (outer, turn + bend / 2))
            (ax, az), (bx, bz) = ((float(q * np.cos(a)), float(q * np.sin(a))) for q, a in angles)
            wide = 0.022 * r
            mesh.hull([(ax - wide, thick, az - wide), (ax + wide, thick, az + wide), (bx + wide, thick, bz + wide),
                       (bx - wide, thick, bz - wide)], INK)  # fmt: skip
    return Parcel(mesh, (r, r, thick))
