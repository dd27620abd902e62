"""The flat part of a street: grass, pavement, carriageway, junctions and what is painted on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, Colour, stuff_id, to_fixed
from models.datasets.scenes.street_layout import Road

CLOSEST = 0.3
"""The ground is painted from this many metres ahead of the camera."""

DASH, DASH_PERIOD = 3.0, 6.5
ZEBRA = (-8.0, -5.0)
STOP_LINE = (-9.6, -9.2)
"""Zebra crossing and stop line, in metres along the road from the middle of a junction."""


class Street:
    """Paints the ground of a street with junctions at the given places (m), seen ``view`` metres ahead."""

    def __init__(self, rng: np.random.Generator, road: Road, junctions: list[float], view: float, wet: float) -> None:
        self._road = road
        self._junctions = junctions
        self._view = view
        self._colours = _ground_colours(rng, wet)
        self._ahead = np.concatenate([[CLOSEST, 1.0, 2.0, 3.0], np.geomspace(4.0, 2 * view, 18)])

    def paint(self, canvas: Canvas, camera: Camera, along: float) -> None:
        """Paint the ground for a camera ``along`` metres down the road."""
        patches = [*self._surfaces(along), *self._markings(along)]
        pixels, _ = camera.project(np.concatenate([outline for _, _, outline in patches]))
        fixed = to_fixed(pixels)
        start = 0
        for name, colour, outline in patches:
            shape = fixed[start : start + len(outline)]
            canvas.polygons([shape], self._colours[colour], stuff_id(name))
            start += len(outline)

    def _strip(self, left: float, right: float, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """World outline [2N, 3] between two lateral offsets from the middle line."""
        middle = self._road.middle(distances)
        outline = np.zeros((2 * len(distances), 3))
        outline[:, 0] = np.concatenate([middle + left, middle[::-1] + right])
        outline[:, 2] = np.concatenate([distances, distances[::-1]])
        return outline

    def _near_junctions(self, along: float) -> list[float]:
        return [junction for junction in self._junctions if along - 8 < junction < along + self._view]

    def _surfaces(self, along: float) -> list[tuple[str, str, NDArray[np.float64]]]:
        half, edge = self._road.half, self._road.half + self._road.pavement
        ahead = self._ahead + along

        def pavement(colour: str, inner: float, outer: float, distances: NDArray[np.float64]) -> None:
            for side in (-1.0, 1.0):
                patches.append(("pavement", colour, self._strip(side * inner, side * outer, distances)))

        patches = [("vegetation", "grass", self._strip(-400.0, 400.0, ahead))]
        pavement("pavement", half, edge, ahead)
        for slab in _multiples(along + 1, along + 20, 1.5):
            pavement("joint", half, edge, np.array([slab, slab + 0.06]))
        pavement("kerb", half, half + 0.22, ahead)
        patches.append(("road", "road", self._strip(-half, half, ahead)))
        for junction in self._near_junctions(along):
            crossing = np.maximum([junction - 4.0, junction + 4.0], along + CLOSEST)
            patches.append(("road", "road", self._strip(-60.0, 60.0, crossing)))
        return patches

    def _markings(self, along: float) -> list[tuple[str, str, NDArray[np.float64]]]:
        half, junctions, start = self._road.half, self._near_junctions(along), along + CLOSEST
        lines: list[NDArray[np.float64]] = []

        def mark(left: float, right: float, ends: tuple[float, float]) -> None:
            distances = np.maximum(ends, start)
            if distances[1] > distances[0]:
                lines.append(self._strip(left, right, distances))

        for dash in _multiples(along - DASH, along + 90, DASH_PERIOD):
            if not any(junction - 10 < dash + DASH and dash < junction + 5 for junction in junctions):
                mark(-0.08, 0.08, (dash, dash + DASH))
        for junction in junctions:
            for x in np.arange(-half + 0.4, half - 0.4, 1.1):
                mark(x, x + 0.55, (junction + ZEBRA[0], junction + ZEBRA[1]))
            mark(0.2, half, (junction + STOP_LINE[0], junction + STOP_LINE[1]))
        if half > 5:  # the parking lanes are wide enough to be marked off
            for x in (-3.45, 3.45):
                lines.append(self._strip(x - 0.06, x + 0.06, np.geomspace(0.4, 90, 12) + along))
        return [("road marking", "marking", line) for line in lines]


def _multiples(start: float, end: float, step: float) -> list[float]:
    """The multiples of ``step`` between two distances, which stay in place while the camera moves."""
    return [float(step * k) for k in range(int(np.ceil(start / step)), int(np.ceil(end / step)))]


def _ground_colours(rng: np.random.Generator, wet: float) -> dict[str, Colour]:
    grey = float(rng.uniform(78, 108)) * (1 - 0.25 * wet)
    stone = float(rng.uniform(138, 176)) * (1 - 0.18 * wet)
    warm = float(rng.uniform(-6, 14))
    return {
        "road": (grey, grey, grey + 4),
        "pavement": (stone + warm, stone, stone - warm),
        "joint": (0.86 * (stone + warm), 0.86 * stone, 0.86 * (stone - warm)),
        "kerb": (1.14 * stone, 1.14 * stone, 1.12 * stone),
        "grass": (float(rng.uniform(80, 110)), float(rng.uniform(116, 138)), float(rng.uniform(56, 74))),
        "marking": (226.0, 226.0, 220.0),
    }
