"""Solids made of flat faces, painted with back-face culling in the order in which they were added.

Local frame of a solid: x to its right, y up, z forward; metres. Faces are oriented outwards by the builder, so nobody
has to care about the order of a face's corners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, Colour, to_fixed
from models.datasets.scenes.light import Light

Point = tuple[float, float, float]


def turned(yaw: float) -> NDArray[np.float64]:
    """Rotation about the vertical axis, [3, 3]: yaw 0 looks along +Z, pi/2 along +X."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


class Mesh:
    """A solid; add faces with ``face``, ``hull``, ``box`` or ``revolve``, then ``draw`` it as often as needed."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._spans: list[tuple[int, int]] = []
        self._colours: list[Colour] = []
        self._normals: list[Point] = []
        self._kinds: list[str] = []
        self._frozen: tuple[NDArray[np.float64], ...] | None = None

    def _add(self, kind: str, points: Sequence[Point], colour: Colour, normal: Point) -> None:
        self._spans.append((len(self._points), len(self._points) + len(points)))
        self._points.extend(points)
        self._colours.append(colour)
        self._normals.append(normal)
        self._kinds.append(kind)
        self._frozen = None

    def face(self, points: Sequence[Point], colour: Colour, inside: Point, convex: bool = True) -> None:
        """A flat polygon seen only from the side that looks away from the point ``inside``."""
        middle = tuple(sum(values) / len(points) for values in zip(*points, strict=True))
        normal = _newell_normal(points)
        if sum(n * (m - i) for n, m, i in zip(normal, middle, inside, strict=True)) < 0:
            points, normal = points[::-1], (-normal[0], -normal[1], -normal[2])
        self._add("convex" if convex else "polygon", points, colour, normal)

    def hull(self, points: Sequence[Point], colour: Colour) -> None:
        """The silhouette of a convex body, seen from all sides and shaded as a wall that looks up."""
        self._add("hull", points, colour, (0.0, 1.0, 0.0))

    def box(self, low: Point, high: Point, colour: Colour) -> None:
        """A cuboid between two corners."""
        middle = tuple((np.array(low) + np.array(high)) / 2)
        for axis in range(3):
            others = [i for i in range(3) if i != axis]
            for level in (low[axis], high[axis]):
                corners = []
                for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
                    corner = [0.0, 0.0, 0.0]
                    corner[axis] = level
                    corner[others[0]] = (low, high)[a][others[0]]
                    corner[others[1]] = (low, high)[b][others[1]]
                    corners.append((corner[0], corner[1], corner[2]))
                self.face(corners, colour, middle)

    def prism(self, outline: Sequence[tuple[float, float]], half_width: float, colour: Colour) -> None:
        """A side outline of (z, y) corners, extruded over x from -half_width to half_width."""
        z, y = np.array(outline).mean(axis=0)
        middle = (0.0, float(y), float(z))
        for side in (-half_width, half_width):
            self.face([(side, py, pz) for pz, py in outline], colour, middle)
        for (z0, y0), (z1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True):
            corners = [(-half_width, y0, z0), (half_width, y0, z0), (half_width, y1, z1), (-half_width, y1, z1)]
            self.face(corners, colour, middle)

    def draw(
        self,
        canvas: Canvas,
        camera: Camera,
        light: Light,
        position: Point,
        rotation: NDArray[np.float64],
        segment_id: int,
    ) -> None:
        """Paint the solid standing at ``position`` (world) as the pixels of ``segment_id``."""
        if self._frozen is None:
            starts = np.array([start for start, _ in self._spans])
            self._frozen = (np.array(self._points), np.array(self._colours), np.array(self._normals), starts)
        points, colours, normals, starts = self._frozen
        world = points @ rotation.T + np.array(position)
        pixels, depth = camera.project(world)
        first = pixels[starts]
        faces_camera = _area(pixels, self._spans, first) > 0
        shade = light.shade(normals @ rotation.T)
        seen = light.colours(colours * shade[:, None], float(depth.mean()))
        fixed = to_fixed(pixels)
        for (start, end), kind, visible, colour in zip(
            self._spans, self._kinds, faces_camera.tolist(), seen, strict=True
        ):
            if kind == "hull":
                canvas.convex(np.asarray(cv2.convexHull(fixed[start:end]), np.int32), colour, segment_id)
            elif visible and kind == "convex":
                canvas.convex(fixed[start:end], colour, segment_id)
            elif visible:
                canvas.polygons([fixed[start:end]], colour, segment_id)


def _newell_normal(points: Sequence[Point]) -> Point:
    """The unit normal of a polygon by Newell's method, which takes concave and slightly bent ones too."""
    x = y = z = 0.0
    for (x0, y0, z0), (x1, y1, z1) in pairwise([*points, points[0]]):
        x += (y0 - y1) * (z0 + z1)
        y += (z0 - z1) * (x0 + x1)
        z += (x0 - x1) * (y0 + y1)
    length = max(math.sqrt(x * x + y * y + z * z), 1e-12)
    return x / length, y / length, z / length


def _area(
    pixels: NDArray[np.float64], spans: Sequence[tuple[int, int]], first: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Twice the signed area of every projected face [N]; positive when it looks at the camera."""
    following = np.roll(pixels, -1, axis=0)
    ends = np.array([end for _, end in spans])
    following[ends - 1] = first
    cross = pixels[:, 0] * following[:, 1] - pixels[:, 1] * following[:, 0]
    return np.add.reduceat(cross, np.array([start for start, _ in spans]))
