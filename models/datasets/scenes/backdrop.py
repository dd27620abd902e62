"""What is far away or flat: sky, clouds, textured ground and the shadows on it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, to_fixed
from models.datasets.scenes.light import Light

TEXELS = 512


def cloud_noise(
    rng: np.random.Generator, size: tuple[int, int], octaves: tuple[int, ...], wrap: bool = False
) -> NDArray[np.float32]:
    """Smooth noise of mean 0 and standard deviation 1, float32 [H, W], summed over grids of the given cell counts."""
    width, height = size
    total = np.zeros((height, width), np.float32)
    for level, cells in enumerate(octaves):
        grid = rng.normal(size=(cells, cells)).astype(np.float32)
        if wrap:
            grid = np.pad(grid, 2, mode="wrap")
            fine = cv2.resize(grid, None, fx=width / cells, fy=height / cells, interpolation=cv2.INTER_CUBIC)
            y, x = 2 * height // cells, 2 * width // cells
            layer = fine[y : y + height, x : x + width]
        else:
            layer = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += np.asarray(layer, np.float32) / 1.6**level
    return np.asarray((total - total.mean()) / total.std(), np.float32)


def sky(
    rng: np.random.Generator,
    size: tuple[int, int],
    horizon: float,
    zenith: tuple[float, float, float],
    low: tuple[float, float, float],
    clouds: float,
    cloud_colour: tuple[float, float, float],
) -> NDArray[np.uint8]:
    """A sky uint8 [H, W, 3]: a gradient down to the horizon row and clouds that cover about the share ``clouds``."""
    width, height = size
    t = np.clip(np.arange(height) / max(horizon, 1.0), 0, 1)[:, None, None] ** 1.4
    picture = np.broadcast_to((1 - t) * np.array(zenith) + t * np.array(low), (height, width, 3))
    squeezed = cv2.resize(cloud_noise(rng, (256, 256), (4, 8, 16, 40)), (width, height))
    threshold = float(np.quantile(squeezed, 1 - clouds)) if 0 < clouds < 1 else (9.0 if clouds <= 0 else -9.0)
    closed = clouds >= 1
    cover = np.clip((squeezed - threshold) * 1.1, 0, 0.85)[..., None] * (1 - (0.8 if closed else 0.5) * t)
    bottom = 1 - (0.03 * squeezed if closed else 0.16 * np.clip(squeezed - threshold, 0, 1.6))[..., None]
    mixed = picture * (1 - cover) + np.array(cloud_colour) * bottom * cover
    return np.asarray(np.clip(mixed, 0, 255), np.uint8)


class Ground:
    """Texture, haze and shadows of the plane Y = 0, for a camera that moves over it without turning much."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        camera: Camera,
        light: Light,
        top: int,
        grain: float,
        scale: float = 36.0,
    ) -> None:
        """Ground of all rows from ``top``; ``grain`` is the texture's strength, ``scale`` its texels a metre."""
        width, height = size
        self._top = max(0, min(top, height - 1))
        self._light = light
        self._scale = scale
        x, z = camera.ground(width, np.arange(self._top, height, dtype=np.float64))
        distance = np.hypot(x - camera.position[0], z - camera.position[2])
        self._u = ((x - camera.position[0]) * scale) % TEXELS
        self._v = ((z - camera.position[2]) * scale) % TEXELS
        fade = np.clip(0.42 * camera.focal / (scale * np.maximum(distance, 0.1)), 0, 1)
        self._amplitude = (fade * 255).astype(np.uint8)
        self._base = (128.0 - 128.0 * self._amplitude / 255.0).astype(np.uint8)
        kept = np.exp(-light.haze * distance)[..., None]
        self._kept = np.repeat((kept * 255).astype(np.uint8), 3, axis=2)
        self._haze = ((1 - kept) * np.array(light.haze_colour)).astype(np.uint8)
        coarse = cloud_noise(rng, (TEXELS, TEXELS), (8, 32), wrap=True)
        fine = rng.standard_normal((TEXELS, TEXELS), np.float32)
        self._texture = np.clip(128 + grain * (0.6 * coarse + 0.8 * fine), 40, 220).astype(np.uint8)

    def finish(
        self,
        canvas: Canvas,
        camera: Camera,
        offset: tuple[float, float],
        shadows: list[NDArray[np.float64]],
        mask: NDArray[np.uint8] | None = None,
    ) -> None:
        """Apply texture, shadows and haze to the ground painted so far, or to its part where ``mask`` [H, W] is set.

        ``offset`` (x, z) in metres moves the texture; ``shadows`` are outlines [N, 2] of world (x, z) points.
        """
        part = canvas.image[self._top :]
        u = self._u + np.float32(offset[0] * self._scale % TEXELS)
        v = self._v + np.float32(offset[1] * self._scale % TEXELS)
        grain = cv2.remap(self._texture, u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
        shade = cv2.add(cv2.multiply(grain, self._amplitude, scale=1 / 255), self._base)
        if shadows:
            shade = cv2.multiply(shade, self._shadow_plane(camera, shadows, part.shape[:2]), scale=1 / 255)
        lit = cv2.multiply(part, cv2.merge([shade] * 3), scale=1 / 128)
        seen = cv2.add(cv2.multiply(lit, self._kept, scale=1 / 255), self._haze)
        if mask is None:
            part[:] = seen
        else:
            cv2.copyTo(seen, mask[self._top :], part)

    def _shadow_plane(
        self, camera: Camera, shadows: list[NDArray[np.float64]], shape: tuple[int, int]
    ) -> NDArray[np.uint8]:
        plane = np.full(shape, 255, np.uint8)
        for outline in shadows:
            points = np.stack([outline[:, 0], np.zeros(len(outline)), outline[:, 1]], axis=1)
            pixels, _ = camera.project(points)
            hull = cv2.convexHull(to_fixed(pixels - np.array([0.0, self._top])))
            cv2.fillConvexPoly(plane, hull, 255 * self._light.shadow, cv2.LINE_8, 4)
        return np.asarray(cv2.blur(plane, (5, 3)), np.uint8)


def shadow_outline(light: Light, footprint: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """The outline [2N, 2] of the shadow of an upright body: its footprint (x, z) and where its top's shadow falls."""
    x, y, z = light.direction
    shift = -height / max(y, 0.2) * np.array([x, z])
    return np.concatenate([footprint, footprint + shift])
