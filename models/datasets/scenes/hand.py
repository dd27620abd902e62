"""A worker's hand that reaches over the belt: fingers, palm and a sleeve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, Colour
from models.datasets.scenes.light import Light
from models.datasets.scenes.mesh import Point, turned
from models.datasets.scenes.people import SKIN, Limb, draw_limbs

SLEEVES: tuple[Colour, ...] = (
    (40, 70, 130),
    (220, 110, 30),
    (70, 74, 80),
    (40, 110, 80),
    (225, 225, 220),
    (150, 40, 44),
)
GLOVES: tuple[Colour, ...] = ((60, 120, 190), (230, 230, 224), (70, 70, 74))


@dataclass(frozen=True)
class Hand:
    """A hand whose palm is the origin and whose fingers point along z; ``mirror`` -1 makes it a left hand.

    ``curl`` (rad) bends the fingers; the arm rises by ``rise`` metres towards the elbow.
    """

    skin: Colour
    sleeve: Colour
    mirror: float
    curl: float
    rise: float

    @property
    def extent(self) -> tuple[float, float, float]:
        """Half the width, half the length, and the height in metres."""
        return 0.06, 0.12, 0.1

    def draw(
        self, canvas: Canvas, camera: Camera, light: Light, position: Point, yaw: float, time: float, segment_id: int
    ) -> None:
        """Paint the hand; the fingers open and close with ``time``."""
        curl = self.curl + 0.25 * float(np.sin(4.0 * time))
        draw_limbs(canvas, camera, light, self._limbs(curl), position, turned(yaw), segment_id)

    def _limbs(self, curl: float) -> list[Limb]:
        m = self.mirror
        limbs = [
            Limb((0.0, self.rise, -1.3), (0.0, 0.03, -0.2), (0.085, 0.056), self.sleeve),
            Limb((0.0, 0.032, -0.2), (0.0, 0.03, -0.17), (0.058, 0.056), _darker(self.sleeve)),
            Limb((0.0, 0.025, -0.17), (0.0, 0.01, -0.05), (0.034, 0.038), self.skin),
        ]
        for x in (-0.022, 0.022):
            limbs.append(Limb((x, 0.01, -0.05), (1.25 * x, 0.01, 0.03), (0.026, 0.022), self.skin))
        for k, (spread, length) in enumerate(((-0.036, 0.07), (-0.013, 0.08), (0.011, 0.076), (0.033, 0.06))):
            root = np.array([spread, 0.01, 0.035])
            bend = curl + 0.06 * k
            knuckle = root + 0.55 * length * np.array([0.35 * spread / 0.036, -np.sin(0.4 * bend), np.cos(0.4 * bend)])
            tip = knuckle + 0.55 * length * np.array([0.2 * spread / 0.036, -np.sin(bend), np.cos(bend)])
            shade = _darker(self.skin, 0.9 + 0.06 * (k % 2))
            limbs += [
                Limb(_point(root), _point(knuckle), (0.0125, 0.0115), shade),
                Limb(_point(knuckle), _point(tip), (0.0115, 0.0095), shade),
            ]
        thumb = np.array([m * 0.07, -0.01, 0.02])
        limbs += [
            Limb((m * 0.03, 0.0, -0.05), _point(thumb), (0.018, 0.0135), _darker(self.skin, 0.94)),
            Limb(_point(thumb), _point(thumb + np.array([m * 0.004, -0.02, 0.034])), (0.0135, 0.011), self.skin),
        ]
        return limbs


def make_hand(rng: np.random.Generator, rise: float) -> Hand:
    """A bare or gloved hand in the sleeve of some work suit."""
    gloved = rng.random() < 0.3
    palette = GLOVES if gloved else SKIN
    return Hand(
        skin=palette[int(rng.integers(len(palette)))],
        sleeve=SLEEVES[int(rng.integers(len(SLEEVES)))],
        mirror=float(rng.choice([-1.0, 1.0])),
        curl=float(rng.uniform(0.3, 0.8)),
        rise=rise,
    )


def _darker(colour: Colour, factor: float = 0.8) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _point(values: np.ndarray) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
