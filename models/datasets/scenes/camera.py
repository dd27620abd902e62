"""A pinhole camera in a world with X to the right, Y up and Z forward, in metres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NEAR = 0.25
"""Points nearer than this (m) are pushed to this depth: edges that run along the view direction stay straight."""


@dataclass(frozen=True)
class Camera:
    """Focal length and principal point in pixels; pitch is positive when the camera looks down, yaw to the right."""

    position: tuple[float, float, float]
    pitch: float
    focal: float
    centre: tuple[float, float]
    yaw: float = 0.0

    @cached_property
    def rotation(self) -> NDArray[np.float64]:
        """World to camera (x right, y down, z forward), [3, 3]."""
        cos_p, sin_p = np.cos(self.pitch), np.sin(self.pitch)
        cos_y, sin_y = np.cos(self.yaw), np.sin(self.yaw)
        turn = np.array([[cos_y, 0.0, -sin_y], [0.0, 1.0, 0.0], [sin_y, 0.0, cos_y]])
        tilt = np.array([[1.0, 0.0, 0.0], [0.0, -cos_p, -sin_p], [0.0, -sin_p, cos_p]])
        return np.asarray(tilt @ turn)

    @cached_property
    def eye(self) -> NDArray[np.float64]:
        """The camera's position as an array [3]."""
        return np.array(self.position)

    @cached_property
    def _centre(self) -> NDArray[np.float64]:
        return np.array(self.centre)

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """World points [..., 3] to pixels [..., 2] and depths [...] in metres along the view direction."""
        local = (points - self.eye) @ self.rotation.T
        depth = np.maximum(local[..., 2], NEAR)
        pixels = local[..., :2] * (self.focal / depth[..., None]) + self._centre
        return pixels, depth

    def ground(self, width: int, rows: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """World X and Z, each float32 [rows, width], where the pixels of these rows meet the plane Y = 0."""
        columns = (np.arange(width) - self.centre[0]) / self.focal
        v = (rows - self.centre[1]) / self.focal
        x, y = np.meshgrid(columns, v)
        rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ self.rotation
        reach = -self.position[1] / np.minimum(rays[..., 1], -1e-4)
        ground_x = self.position[0] + reach * rays[..., 0]
        ground_z = self.position[2] + reach * rays[..., 2]
        return ground_x.astype(np.float32), ground_z.astype(np.float32)
