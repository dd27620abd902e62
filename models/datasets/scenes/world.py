"""What the street and the line have in common: things, figures that can be painted, and finished frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas
from models.datasets.scenes.light import Light
from models.datasets.scenes.mesh import Point

FRAMES_PER_SECOND = 25

SMALLEST_DRAWN = 400.0
"""A thing whose outline would cover less than this many pixels of a 640x480 picture is not drawn at all."""

SMALLEST_LABELLED = 200.0
"""What is left of a thing is void where occlusion leaves fewer pixels than this of a 640x480 picture."""


def size_factor(size: tuple[int, int]) -> float:
    """How many pixels of a picture of this size stand for one pixel at 640x480."""
    return min(size[0], size[1] * 4 / 3) ** 2 / 640**2


@dataclass(frozen=True)
class Thing:
    """The identity of one object for the whole sequence."""

    track_id: int
    category: str
    attributes: Mapping[str, str]


class Figure(Protocol):
    """Something that can be painted; ``extent`` is half its width, half its length and its height in metres."""

    @property
    def extent(self) -> tuple[float, float, float]:
        """Half the width, half the length, and the height in metres."""
        ...

    def draw(
        self,
        canvas: Canvas,
        camera: Camera,
        light: Light,
        position: Point,
        yaw: float,
        time: float,
        segment_id: int,
    ) -> None:
        """Paint at ``position`` (world, metres), turned to ``yaw``, as it is ``time`` seconds after the start."""
        ...


@dataclass(frozen=True)
class Frame:
    """A painted picture uint8 [H, W, 3], its segment ids uint16 [H, W] and the things that may be in it."""

    image: NDArray[np.uint8]
    ids: NDArray[np.uint16]
    things: tuple[Thing, ...]


class World(Protocol):
    """A scene laid out for one sequence."""

    def render(self, index: int, rng: np.random.Generator) -> Frame:
        """Paint frame ``index``; ``rng`` is the frame's own and moves only the sensor's noise."""
        ...
