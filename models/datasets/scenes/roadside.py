"""What stands beside the road: houses with windows, trees, and traffic signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, Colour, stuff_id, to_fixed
from models.datasets.scenes.light import Light
from models.datasets.scenes.mesh import Point

WALLS: tuple[Colour, ...] = (
    (176, 120, 96), (204, 190, 164), (150, 84, 70), (190, 176, 150), (140, 140, 146), (214, 200, 180), (166, 146, 120),
    (196, 160, 110),
)  # fmt: skip
LEAVES: tuple[Colour, ...] = ((64, 104, 44), (84, 120, 50), (50, 92, 52), (110, 126, 54), (134, 112, 48))
BUILDING = stuff_id("building")
VEGETATION = stuff_id("vegetation")


@dataclass(frozen=True)
class House:
    """A flat-fronted house from ``start`` to ``end`` metres along the road, ``lateral`` metres right of its middle.

    ``frames`` and ``panes`` [windows, 4, 2] are corners as the fraction along the wall and the height in metres;
    ``lit`` [windows] says where a lamp burns; ``shop`` colours the ground floor where there is one.
    """

    start: float
    end: float
    lateral: float
    height: float
    wall: Colour
    frames: NDArray[np.float64]
    panes: NDArray[np.float64]
    lit: NDArray[np.bool_]
    shop: Colour | None


@dataclass(frozen=True)
class Tree:
    """A trunk of this height (m) and clumps of leaves.

    ``blobs`` [clumps, corners, 2] are outlines in metres from the foot, x to the right and y down, the darkest first;
    ``colours`` [clumps, 3].
    """

    trunk: float
    blobs: NDArray[np.float64]
    colours: NDArray[np.float64]

    @property
    def crown(self) -> float:
        """Height of the middle of the crown in metres."""
        return -float(self.blobs[..., 1].mean())


@dataclass(frozen=True)
class Sign:
    """A plate of one of the usual designs on a pole; size in metres."""

    design: str
    size: float
    height: float

    @property
    def extent(self) -> tuple[float, float, float]:
        """Half the width, half the length, and the height in metres."""
        return self.size, 0.1, self.height + self.size

    def draw(
        self, canvas: Canvas, camera: Camera, light: Light, position: Point, yaw: float, time: float, segment_id: int
    ) -> None:
        """Paint pole and plate, both of them the thing, facing the camera."""
        foot, depth = camera.project(np.array(position))
        scale, far = camera.focal / float(depth), float(depth)
        shade = light.ambient + 0.6 * light.diffuse
        pole = _bar(-0.045, -self.height - self.size, 0.045, 0.0) * scale
        canvas.convex(to_fixed(foot + pole), light.colour(_times((130.0, 134.0, 138.0), shade), far), segment_id)
        centre = foot - np.array([0.0, (self.height + 0.1) * scale])
        for shape, colour in PLATES[self.design]:
            seen = light.colour(_times(colour, shade), far)
            canvas.convex(to_fixed(centre + shape * self.size * scale), seen, segment_id)


def make_house(rng: np.random.Generator, start: float, end: float, lateral: float) -> House:
    """A house of two to five floors, perhaps with a shop."""
    floors = int(rng.integers(2, 6))
    columns = max(2, round((end - start) / rng.uniform(2.2, 3.2)))
    tone = rng.uniform(0.8, 1.12)
    r, g, b = WALLS[int(rng.integers(len(WALLS)))]
    return House(
        start, end, lateral,
        height=floors * 3.1 + 1.4,
        wall=(r * tone, g * tone, b * tone),
        frames=_grid_of_windows(floors, columns, 1.25),
        panes=_grid_of_windows(floors, columns, 1.0),
        lit=rng.random(floors * columns) < 0.35,
        shop=(float(rng.uniform(60, 220)), float(rng.uniform(40, 120)), float(rng.uniform(40, 150)))
        if rng.random() < 0.5 else None,
    )  # fmt: skip


def make_tree(rng: np.random.Generator) -> Tree:
    """A broad-leaved tree four to six metres high."""
    size, count, corners = rng.uniform(0.8, 1.25), 9, 16
    angle = rng.uniform(0, 2 * np.pi, count)
    reach = np.sqrt(rng.uniform(0, 1, count)) * 1.25 * size
    x, y = reach * np.cos(angle), 3.9 * size + 1.1 * reach * np.sin(angle)
    tone = 0.72 + 0.2 * (y - y.min()) / (np.ptp(y) + 1e-6) + rng.uniform(-0.06, 0.1, count)
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = rng.uniform(0.75, 1.15, (count, 1)) * size * (1 + rng.uniform(-0.2, 0.16, (count, corners)))
    blobs = np.stack([x[:, None] + radius * np.cos(turns), radius * np.sin(turns) - y[:, None]], axis=-1)
    order = np.argsort(tone, kind="stable")
    leaf = np.array(LEAVES[int(rng.integers(len(LEAVES)))])
    return Tree(float(2.2 * size), blobs[order], tone[order, None] * leaf)


def make_sign(rng: np.random.Generator) -> Sign:
    """A sign of one of six designs."""
    design = ("limit", "warning", "stop", "priority", "mandatory", "parking")[int(rng.integers(6))]
    return Sign(design, size=float(rng.uniform(0.38, 0.48)), height=float(rng.uniform(2.1, 2.6)))


def draw_house(canvas: Canvas, camera: Camera, light: Light, house: House, line: NDArray[np.float64]) -> None:
    """Paint a house beside the stretch ``line`` [2, 2] of the road's middle, world (x, z) of its near and far end."""
    near, far = line + np.array([house.lateral, 0.0])
    side = 1.0 if house.lateral > 0 else -1.0
    passed = max(0.0, (camera.position[2] + 0.5 - near[1]) / (far[1] - near[1]))
    seen_from = near + passed * (far - near)
    ground_floor = house.shop if house.shop is not None else _times(house.wall, 0.7)
    gable, front = (0.0, 0.0, -1.0), (-side, 0.0, 0.0)
    walls = [
        (_wall(seen_from, seen_from + np.array([9.0 * side, 0.0]), 0.0, house.height), house.wall, gable),
        (_wall(seen_from, far, 0.0, house.height), house.wall, front),
        (_wall(seen_from, far, house.height - 0.5, house.height), _times(house.wall, 0.75), front),
        (_wall(seen_from, far, 0.0, 0.7), ground_floor, front),
        (_wall(seen_from, far, 2.7, 3.2), ground_floor if house.shop is not None else house.wall, front),
    ]
    windows = np.concatenate([house.frames, house.panes])
    ground = near + windows[..., :1] * (far - near)
    corners = np.stack([ground[..., 0], windows[..., 1], ground[..., 1]], axis=-1)
    pixels, depth = camera.project(np.concatenate([[quad for quad, _, _ in walls], corners]))
    across = pixels[: len(walls), :, 0]
    if across.max() < 0 or across.min() > canvas.image.shape[1]:
        return
    fixed = to_fixed(pixels)
    shades = light.shade(np.array([normal for _, _, normal in walls])).tolist()
    for outline, (_, colour, _), shade, away in zip(fixed, walls, shades, depth.mean(axis=1).tolist(), strict=False):
        canvas.convex(outline, light.colour(_times(colour, shade), away), BUILDING)
    _paint_windows(canvas, light, house, fixed[len(walls) :], depth[len(walls) :], shades[1])


def _paint_windows(
    canvas: Canvas, light: Light, house: House, fixed: NDArray[np.int32], depth: NDArray[np.float64], shade: float
) -> None:
    """Frames, dark panes and lit panes, each in one stroke; ``fixed`` [2 * windows, 4, 2] are frames, then panes."""
    count = len(house.lit)
    shown = depth.min(axis=1) > 1.0
    frame, glass = _times(house.wall, 1.25 * shade), _times((70.0, 84.0, 100.0), 0.5 + 0.5 * shade)
    lamp = (255.0, 214.0, 130.0) if light.lamps_on else _times((150.0, 165.0, 180.0), shade)
    frames, panes = np.arange(count), np.arange(count, 2 * count)
    for kind, colour in ((frames, frame), (panes[~house.lit], glass), (panes[house.lit], lamp)):
        chosen = kind[shown[kind]]
        if len(chosen):
            canvas.polygons(list(fixed[chosen]), light.colour(colour, float(depth[chosen].mean())), BUILDING)


def _grid_of_windows(floors: int, columns: int, grow: float) -> NDArray[np.float64]:
    """Corners [floors * columns, 4, 2] as the fraction along the wall and the height in metres."""
    column, floor = (grid.ravel() for grid in np.meshgrid(np.arange(columns), np.arange(floors)))
    centre, half = (column + 0.5) / columns, 0.28 * grow / columns
    low, high = 0.9 + 3.1 * floor - 0.48 * (grow - 1), 2.5 + 3.1 * floor + 0.48 * (grow - 1)
    left, right = centre - half, centre + half
    corners = [(left, low), (right, low), (right, high), (left, high)]
    return np.stack([np.stack(corner, axis=-1) for corner in corners], axis=1)


def draw_tree(canvas: Canvas, camera: Camera, light: Light, tree: Tree, position: Point) -> None:
    """Paint a tree as a flat figure that faces the camera; a far one with fewer clumps of leaves."""
    foot, depth = camera.project(np.array(position))
    scale, far = camera.focal / float(depth), float(depth)
    if abs(float(foot[0]) - camera.centre[0]) > canvas.image.shape[1] / 2 + 3.5 * scale:
        return
    trunk = np.array([[-0.14, 0.0], [0.14, 0.0], [0.09, -tree.trunk - 1.0], [-0.09, -tree.trunk - 1.0]])
    canvas.convex(to_fixed(foot + trunk * scale), light.colour((84.0, 66.0, 50.0), far), VEGETATION)
    shade = 1.15 * (light.ambient + 0.7 * light.diffuse)
    colours = light.colours(tree.colours * shade, far)
    step = 1 if scale > 8 else 2
    for blob, colour in zip(to_fixed(foot + tree.blobs * scale)[::step], colours[::step], strict=True):
        canvas.polygons([blob], colour, VEGETATION)


RED, WHITE, BLUE, YELLOW, BLACK = (
    (206.0, 20.0, 26.0),
    (244.0, 244.0, 240.0),
    (24.0, 84.0, 176.0),
    (244.0, 200.0, 30.0),
    (24.0, 24.0, 26.0),
)


def _polygon(corners: int, radius: float, turn: float) -> NDArray[np.float64]:
    angles = turn + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _bar(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float64]:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


UP, FLAT, DIAMOND = -np.pi / 2, np.pi / 8, 0.0
PLATES: dict[str, tuple[tuple[NDArray[np.float64], Colour], ...]] = {
    "limit": (
        (_polygon(20, 1.0, 0), RED), (_polygon(20, 0.74, 0), WHITE), (_bar(-0.42, -0.36, -0.1, 0.36), BLACK),
        (_bar(0.1, -0.36, 0.42, 0.36), BLACK), (_bar(0.19, -0.22, 0.33, 0.22), WHITE),
    ),
    "warning": (
        (_polygon(3, 1.2, UP), RED), (_polygon(3, 0.8, UP), WHITE), (_bar(-0.08, -0.35, 0.08, 0.12), BLACK),
        (_bar(-0.08, 0.18, 0.08, 0.3), BLACK),
    ),
    "stop": (
        (_polygon(8, 1.08, FLAT), WHITE), (_polygon(8, 0.96, FLAT), RED), (_bar(-0.7, -0.22, 0.7, 0.22), WHITE),
        (_bar(-0.36, -0.22, -0.28, 0.22), RED), (_bar(-0.04, -0.22, 0.04, 0.22), RED),
        (_bar(0.28, -0.22, 0.36, 0.22), RED),
    ),
    "priority": ((_polygon(4, 1.15, DIAMOND), WHITE), (_polygon(4, 0.85, DIAMOND), YELLOW)),
    "mandatory": (
        (_polygon(20, 1.0, 0), WHITE), (_polygon(20, 0.93, 0), BLUE), (_bar(-0.12, -0.2, 0.12, 0.6), WHITE),
        (np.array([[0, -0.7], [0.4, -0.2], [-0.4, -0.2]]), WHITE),
    ),
    "parking": (
        (_bar(-0.95, -0.95, 0.95, 0.95), WHITE), (_bar(-0.88, -0.88, 0.88, 0.88), BLUE),
        (_bar(-0.4, -0.65, -0.15, 0.65), WHITE), (_bar(-0.2, -0.65, 0.4, 0.1), WHITE),
        (_bar(-0.15, -0.42, 0.18, -0.12), BLUE),
    ),
}  # fmt: skip


def _times(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _wall(start: NDArray[np.float64], end: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """An upright quad [4, 3] over the ground line between two world points (x, z)."""
    (x0, z0), (x1, z1) = start.tolist(), end.tolist()
    return np.array([[x0, low, z0], [x1, low, z1], [x1, high, z1], [x0, high, z0]])
