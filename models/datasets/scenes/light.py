"""Light and air: how colours look at a distance, and what the lens and the sensor do to the finished picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.canvas import Colour


@dataclass(frozen=True)
class Light:
    """One directional light, ambient light, and haze that grows with distance.

    ``direction`` points from the scene to the light (unit vector, world frame); ``gain`` RGB multiplies every colour;
    ``haze`` is the extinction per metre towards ``haze_colour``; ``shadow`` is the brightness left inside a shadow.
    """

    direction: tuple[float, float, float]
    ambient: float
    diffuse: float
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    haze: float = 0.0
    haze_colour: tuple[float, float, float] = (200.0, 205.0, 210.0)
    shadow: float = 0.6
    lamps_on: bool = False

    def shade(self, normals: NDArray[np.floating]) -> NDArray[np.float64]:
        """Brightness [N] of surfaces with unit normals [N, 3] (Lambert)."""
        return np.asarray(self.ambient + self.diffuse * np.maximum(normals @ np.array(self.direction), 0.0))

    def colours(self, colours: NDArray[np.floating], depth: float) -> list[Colour]:
        """Surface colours [N, 3] as the camera sees them from ``depth`` metres."""
        kept = math.exp(-self.haze * depth)
        seen = colours * (np.array(self.gain) * kept) + np.array(self.haze_colour) * (1.0 - kept)
        return [(r, g, b) for r, g, b in np.minimum(seen, 255.0).tolist()]

    def colour(self, colour: Colour, depth: float) -> Colour:
        """One colour as the camera sees it from ``depth`` metres."""
        kept = math.exp(-self.haze * depth)
        r, g, b = (
            min(255.0, channel * gain * kept + haze * (1.0 - kept))
            for channel, gain, haze in zip(colour, self.gain, self.haze_colour, strict=True)
        )
        return r, g, b


class Lens:
    """Vignette, exposure, noise, blur and rain drops, drawn once for a sequence and applied to each frame."""

    def __init__(
        self, size: tuple[int, int], rng: np.random.Generator, exposure: float, noise: float, blur: float, rain: float
    ) -> None:
        width, height = size
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        tilt = rng.uniform(-0.06, 0.06, 2)
        vignette = exposure * (1.0 - rng.uniform(0.05, 0.16) * (x**2 + y**2) / 2 + tilt[0] * x + tilt[1] * y)
        self._gain = np.repeat(np.clip(vignette * 128, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
        self._tile = (height + 97, width + 131)
        grey = rng.standard_normal((*self._tile, 1), np.float32)
        colour = rng.standard_normal((*self._tile, 3), np.float32)
        self._noise = np.asarray(np.clip(np.rint(128 + noise * (grey + 0.6 * colour)), 0, 255), np.uint8)
        if rain > 0:
            self._add_rain(rng, rain)
        self._blur = blur

    def _add_rain(self, rng: np.random.Generator, amount: float) -> None:
        height, width = self._tile
        streaks = np.zeros((height, width), np.uint8)
        slant = rng.uniform(-0.25, 0.25)
        for _ in range(int(amount * width)):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            length = rng.uniform(0.02, 0.06) * height
            ends = (round(x), round(y)), (round(x + slant * length), round(y + length))
            cv2.line(streaks, *ends, int(rng.integers(18, 46)), 1)
        self._noise = np.asarray(cv2.add(self._noise, cv2.merge([streaks] * 3)), np.uint8)

    def apply(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """The picture uint8 [H, W, 3] as the sensor records it; ``rng`` is the frame's own."""
        height, width = image.shape[:2]
        y = int(rng.integers(self._tile[0] - height))
        x = int(rng.integers(self._tile[1] - width))
        lit = cv2.multiply(image, self._gain, scale=1 / 128)
        soft = cv2.GaussianBlur(lit, (3, 3), self._blur)
        grain = self._noise[y : y + height, x : x + width]
        return np.asarray(cv2.addWeighted(soft, 1.0, grain, 1.0, -128.0), np.uint8)
