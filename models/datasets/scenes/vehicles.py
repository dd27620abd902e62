"""Cars and trucks as meshes: local z is the driving direction, the origin lies on the ground under the middle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, Colour
from models.datasets.scenes.light import Light
from models.datasets.scenes.mesh import Mesh, Point, turned

GLASS = (46.0, 58.0, 70.0)
GLASS_BRIGHT = (120.0, 140.0, 155.0)
TYRE = (26.0, 26.0, 28.0)
RIM = (150.0, 152.0, 156.0)
PLATE = (235.0, 235.0, 215.0)
LAMP_WHITE = (250.0, 246.0, 220.0)
LAMP_RED = (205.0, 18.0, 20.0)

PAINTS: tuple[Colour, ...] = (
    (188, 26, 30), (24, 70, 160), (232, 232, 230), (34, 36, 40), (150, 154, 160), (212, 150, 24), (30, 110, 70),
    (92, 44, 110), (228, 96, 24), (96, 150, 190), (120, 84, 60),
)  # fmt: skip


@dataclass(frozen=True)
class Vehicle:
    """One or two convex solids (a truck's cab and its cargo), painted the farther one first."""

    parts: tuple[tuple[float, Mesh], ...]
    extent: tuple[float, float, float]

    def draw(
        self, canvas: Canvas, camera: Camera, light: Light, position: Point, yaw: float, time: float, segment_id: int
    ) -> None:
        """Paint at ``position`` on the ground, driving towards ``yaw``; ``time`` changes nothing."""
        rotation = turned(yaw)
        eye = np.array(camera.position)

        def distance(part: tuple[float, Mesh]) -> float:
            return float(np.linalg.norm(np.array(position) + rotation @ np.array([0.0, 0.0, part[0]]) - eye))

        for _, mesh in sorted(self.parts, key=distance, reverse=True):
            mesh.draw(canvas, camera, light, position, rotation, segment_id)


def make_car(rng: np.random.Generator, lamps_on: bool) -> Vehicle:
    """A saloon, an estate or a small car, in one of the usual paints."""
    paint = _painted(rng)
    shape = rng.choice(["saloon", "estate", "small"])
    length, height = {"saloon": (4.5, 1.46), "estate": (4.6, 1.56), "small": (3.7, 1.52)}[str(shape)]
    half, width = length / 2, float(rng.uniform(0.86, 0.94))
    waist = 0.58 * height
    mesh = Mesh()
    _wheels(mesh, (-half + 0.75, half - 0.8), width, 0.31)
    mesh.prism(
        [(-half, 0.3), (-half - 0.04, 0.55), (-half + 0.05, waist), (half - 1.2, waist), (half - 0.12, waist - 0.18),
         (half, 0.5), (half - 0.03, 0.3)],
        width, paint,
    )  # fmt: skip
    boot = {"saloon": 0.75, "estate": 0.08, "small": 0.1}[str(shape)]
    slope = {"saloon": 0.55, "estate": 0.25, "small": 0.35}[str(shape)]
    base = (-half + boot, half - 1.15)
    roof = (base[0] + slope, base[1] - 0.75)
    _cabin(mesh, base, roof, waist, height, width, paint)
    _sides(mesh, (-half, half), width, waist, paint)
    _wheel_faces(mesh, (-half + 0.75, half - 0.8), width, 0.31, arch=True)
    _front(mesh, half, width, waist, lamps_on)
    _rear(mesh, -half - 0.04, width, waist)
    return Vehicle(((0.0, mesh),), (width, half, height))


def make_truck(rng: np.random.Generator, lamps_on: bool) -> Vehicle:
    """A cab in front of a tall cargo body with a stripe and rear doors."""
    length, width = float(rng.uniform(6.8, 8.4)), 1.2
    half, height = length / 2, float(rng.uniform(3.0, 3.5))
    cab_back = half - 1.9
    paint, cargo_paint = _painted(rng), _painted(rng, pale=True)
    stripe = _painted(rng)

    cargo = Mesh()
    wheels = (-half + 0.9, -half + 1.9)
    _wheels(cargo, wheels, width - 0.05, 0.46)
    cargo.box((-0.9, 0.55, -half), (0.9, 0.9, cab_back), (40.0, 40.0, 44.0))
    low, high = (-width, 0.9, -half), (width, height, cab_back - 0.15)
    cargo.box(low, high, cargo_paint)
    band = (0.9 + 0.35 * (height - 0.9), 0.9 + 0.6 * (height - 0.9))
    for side in (-1.0, 1.0):
        x = side * (width + 0.01)
        _decal(cargo, [(x, band[0], -half + 0.2), (x, band[1], -half + 0.2), (x, band[1], cab_back - 0.5),
                       (x, band[0], cab_back - 0.5)], stripe)  # fmt: skip
    back = -half - 0.01
    _decal(cargo, _rectangle(-width + 0.1, 1.0, width - 0.1, height - 0.12, back), _scaled(cargo_paint, 0.86))
    _decal(cargo, _rectangle(-0.03, 1.0, 0.03, height - 0.12, back - 0.01), (60.0, 60.0, 62.0))
    for x in (-0.35, 0.35):
        _decal(cargo, _rectangle(x - 0.03, 1.05, x + 0.03, height - 0.2, back - 0.01), (90.0, 90.0, 92.0))
    _decal(cargo, _rectangle(-width, 0.62, width, 0.88, back), (52.0, 52.0, 56.0))
    for x in (-width + 0.25, width - 0.25):
        _decal(cargo, _rectangle(x - 0.2, 0.66, x + 0.2, 0.84, back - 0.01), LAMP_RED)
    _decal(cargo, _rectangle(-0.28, 0.66, 0.28, 0.82, back - 0.01), PLATE)
    _wheel_faces(cargo, wheels, width - 0.05, 0.46, arch=False)

    cab = Mesh()
    _wheels(cab, (half - 0.9,), width - 0.08, 0.46)
    cab_height = min(height - 0.25, 2.75)
    cab.prism(
        [(cab_back, 0.45), (cab_back, cab_height), (half - 0.35, cab_height), (half - 0.02, 1.5), (half, 0.45)],
        width - 0.03, paint,
    )  # fmt: skip
    for side in (-1.0, 1.0):
        x = side * (width - 0.02)
        _decal(cab, [(x, 1.5, half - 1.45), (x, 2.3, half - 1.4), (x, 2.3, half - 0.4), (x, 1.5, half - 0.15)], GLASS)
        _decal(cab, [(x, 0.7, half - 1.5), (x, 0.78, half - 1.5), (x, 0.78, half), (x, 0.7, half)], _scaled(paint, 0.6))
    _wheel_faces(cab, (half - 0.9,), width - 0.06, 0.46, arch=True)

    def front(y: float) -> float:
        return half - 0.02 - 0.33 * (y - 1.5) / (cab_height - 1.5) + 0.01

    top = cab_height - 0.25
    _decal(cab, [(-width + 0.16, 1.55, front(1.55)), (width - 0.16, 1.55, front(1.55)),
                 (width - 0.22, top, front(top)), (-width + 0.22, top, front(top))], GLASS)  # fmt: skip
    _decal(cab, [(-0.6, 1.55, front(1.55) + 0.01), (-0.15, 1.55, front(1.55) + 0.01), (0.25, top, front(top) + 0.01),
                 (-0.2, top, front(top) + 0.01)], GLASS_BRIGHT)  # fmt: skip
    _decal(cab, _rectangle(-0.75, 0.85, 0.75, 1.32, half + 0.01), (44.0, 44.0, 46.0))
    _decal(cab, _rectangle(-width + 0.03, 0.45, width - 0.03, 0.72, half + 0.01), (70.0, 70.0, 74.0))
    for x in (-width + 0.28, width - 0.28):
        _decal(cab, _rectangle(x - 0.2, 0.78, x + 0.2, 1.02, half + 0.02), _lamp(lamps_on))
    _decal(cab, _rectangle(-0.28, 0.5, 0.28, 0.66, half + 0.02), PLATE)
    return Vehicle(((-1.0, cargo), (half - 0.95, cab)), (width, half, height))


def _painted(rng: np.random.Generator, pale: bool = False) -> Colour:
    colour = np.array(PAINTS[int(rng.integers(len(PAINTS)))]) * rng.uniform(0.85, 1.1)
    if pale:
        colour = 0.35 * colour + 0.65 * 225
    r, g, b = np.clip(colour + rng.uniform(-10, 10, 3), 8, 250).tolist()
    return r, g, b


def _scaled(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _lamp(lamps_on: bool) -> Colour:
    return (420.0, 410.0, 350.0) if lamps_on else LAMP_WHITE


def _rectangle(x0: float, y0: float, x1: float, y1: float, z: float) -> list[Point]:
    return [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]


def _decal(mesh: Mesh, points: list[Point], colour: Colour) -> None:
    """Something flat on an outer face, hidden when that face is."""
    mesh.face(points, colour, (0.0, 0.9, 0.0))


def _disc(x: float, y: float, z: float, radius: float) -> list[Point]:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return [(x, y + radius * float(np.sin(a)), z + radius * float(np.cos(a))) for a in angles]


def _wheels(mesh: Mesh, axles: tuple[float, ...], half_width: float, radius: float) -> None:
    for z in axles:
        for side in (-1.0, 1.0):
            outer, inner = side * half_width, side * (half_width - 0.22)
            mesh.hull(_disc(outer, radius, z, radius) + _disc(inner, radius, z, radius), TYRE)


def _wheel_faces(mesh: Mesh, axles: tuple[float, ...], half_width: float, radius: float, arch: bool) -> None:
    for z in axles:
        for side in (-1.0, 1.0):
            x = side * (half_width + 0.02)
            if arch:
                _decal(mesh, _disc(x, radius + 0.02, z, radius * 1.18), (18.0, 18.0, 20.0))
            _decal(mesh, _disc(x, radius, z, radius), TYRE)
            _decal(mesh, _disc(x, radius, z, radius * 0.62), RIM)
            _decal(mesh, _disc(x, radius, z, radius * 0.22), (70.0, 70.0, 74.0))


def _cabin(
    mesh: Mesh,
    base: tuple[float, float],
    roof: tuple[float, float],
    waist: float,
    height: float,
    width: float,
    paint: Colour,
) -> None:
    """Four tilted glass walls in painted frames under a painted roof."""
    low, top = width - 0.03, width - 0.2
    corners = {
        "rear": [(-low, waist, base[0]), (low, waist, base[0]), (top, height, roof[0]), (-top, height, roof[0])],
        "front": [(-low, waist, base[1]), (low, waist, base[1]), (top, height, roof[1]), (-top, height, roof[1])],
        "left": [(-low, waist, base[0]), (-low, waist, base[1]), (-top, height, roof[1]), (-top, height, roof[0])],
        "right": [(low, waist, base[0]), (low, waist, base[1]), (top, height, roof[1]), (top, height, roof[0])],
    }
    inside = (0.0, waist + 0.2, (base[0] + base[1]) / 2)
    for name, wall in corners.items():
        mesh.face(wall, paint, inside)
        along = 0.05 if name in ("left", "right") else 0.1
        mesh.face(_inset(wall, along, 0.12), GLASS, inside)
        if name in ("left", "right"):
            pane = _inset(wall, 0.05, 0.12)
            mesh.face(_slice(pane, 0.5, 0.55), paint, inside)
        else:
            mesh.face(_slice(_inset(wall, 0.14, 0.18), 0.1, 0.35), GLASS_BRIGHT, inside)
    roof_corners = [(-top, height, roof[0]), (top, height, roof[0]), (top, height, roof[1]), (-top, height, roof[1])]
    mesh.face(roof_corners, _scaled(paint, 1.05), inside)


def _inset(quad: list[Point], along: float, up: float) -> list[Point]:
    """A smaller quad inside: fractions ``along`` cut at both sides, ``up`` at bottom and top."""
    a, b, c, d = (np.array(p) for p in quad)

    def at(s: float, t: float) -> Point:
        x, y, z = ((1 - t) * ((1 - s) * a + s * b) + t * ((1 - s) * d + s * c)).tolist()
        return x, y, z

    return [at(along, up), at(1 - along, up), at(1 - along, 1 - up), at(along, 1 - up)]


def _slice(quad: list[Point], start: float, end: float) -> list[Point]:
    """The part of a quad between two fractions of its bottom and top edges."""
    a, b, c, d = (np.array(p) for p in quad)
    corners = (a + start * (b - a), a + end * (b - a), d + end * (c - d), d + start * (c - d))
    return [(float(x), float(y), float(z)) for x, y, z in corners]


def _sides(mesh: Mesh, ends: tuple[float, float], width: float, waist: float, paint: Colour) -> None:
    """Door line, handles and a darker sill on both sides."""
    for side in (-1.0, 1.0):
        x = side * (width + 0.01)
        _decal(mesh, [(x, 0.3, ends[0] + 0.1), (x, 0.42, ends[0] + 0.1), (x, 0.42, ends[1] - 0.1),
                      (x, 0.3, ends[1] - 0.1)], _scaled(paint, 0.5))  # fmt: skip
        for z in (-0.25, 0.75):
            _decal(mesh, [(x, 0.42, z), (x, waist, z), (x, waist, z + 0.04), (x, 0.42, z + 0.04)], _scaled(paint, 0.55))


def _front(mesh: Mesh, z: float, width: float, waist: float, lamps_on: bool) -> None:
    face = z + 0.01
    _decal(mesh, _rectangle(-0.5, 0.48, 0.5, 0.66, face), (28.0, 28.0, 32.0))
    _decal(mesh, _rectangle(-0.26, 0.36, 0.26, 0.47, face + 0.01), PLATE)
    for side in (-1.0, 1.0):
        x = side * (width - 0.2)
        _decal(mesh, _rectangle(x - 0.18, 0.52, x + 0.18, 0.68, face), _lamp(lamps_on))
    _decal(mesh, _rectangle(-width + 0.02, 0.3, width - 0.02, 0.36, face), (40.0, 40.0, 44.0))


def _rear(mesh: Mesh, z: float, width: float, waist: float) -> None:
    face = z - 0.03
    for side in (-1.0, 1.0):
        x = side * (width - 0.17)
        _decal(mesh, _rectangle(x - 0.16, waist - 0.24, x + 0.16, waist - 0.08, face), LAMP_RED)
    _decal(mesh, _rectangle(-0.26, 0.46, 0.26, 0.58, face), PLATE)
    _decal(mesh, _rectangle(-width + 0.04, 0.3, width - 0.04, 0.4, face), (40.0, 40.0, 44.0))
