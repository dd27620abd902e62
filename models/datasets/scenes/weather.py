"""The five kinds of weather of the street world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.datasets.scenes.canvas import Colour
from models.datasets.scenes.light import Light

KINDS = ("sun", "overcast", "rain", "fog", "dusk")


@dataclass(frozen=True)
class Weather:
    """Light of the scene, looks of the sky and what the sensor adds; ``exposure`` is a factor, ``noise`` in levels."""

    kind: str
    light: Light
    zenith: Colour
    low_sky: Colour
    clouds: float
    cloud_colour: Colour
    exposure: float
    noise: float
    blur: float
    rain: float
    wet: float


def make_weather(rng: np.random.Generator) -> Weather:
    """Draw a kind of weather and its parameters."""
    kind = KINDS[int(rng.choice(len(KINDS), p=(0.34, 0.24, 0.14, 0.12, 0.16)))]
    azimuth = rng.uniform(0.15, 0.85) * np.pi * rng.choice([-1.0, 1.0])
    elevation = np.radians(rng.uniform(38, 62))
    sun = (
        float(np.sin(azimuth) * np.cos(elevation)),
        float(np.sin(elevation)),
        float(np.cos(azimuth) * np.cos(elevation)),
    )
    up = (0.0, 1.0, 0.0)
    exposure, blur = float(rng.uniform(0.9, 1.12)), float(rng.uniform(0.35, 0.75))
    noise = float(rng.uniform(1.5, 4.0))
    if kind == "sun":
        light = Light(sun, 0.66, 0.46, (1.06, 1.02, 0.95), 0.002, (196.0, 212.0, 228.0), shadow=0.55)
        return Weather(kind, light, (70, 126, 205), (190, 214, 234), float(rng.uniform(0.05, 0.4)), (250, 250, 250),
                       exposure, noise, blur, 0.0, 0.0)  # fmt: skip
    if kind == "overcast":
        light = Light(up, 0.74, 0.16, (0.95, 0.97, 1.0), 0.005, (188.0, 192.0, 196.0), shadow=0.72)
        return Weather(kind, light, (150, 158, 168), (198, 202, 206), 1.0, (206, 208, 212), exposure, noise, blur,
                       0.0, 0.0)  # fmt: skip
    if kind == "rain":
        light = Light(up, 0.64, 0.12, (0.86, 0.92, 1.0), 0.013, (150.0, 158.0, 166.0), shadow=0.66, lamps_on=True)
        return Weather(kind, light, (108, 116, 128), (156, 164, 172), 1.0, (150, 156, 164), exposure, noise + 1.0, blur,
                       float(rng.uniform(0.5, 1.0)), 1.0)  # fmt: skip
    if kind == "fog":
        haze = float(rng.uniform(0.028, 0.05))
        light = Light(up, 0.76, 0.1, (0.97, 0.98, 1.0), haze, (196.0, 200.0, 202.0), shadow=0.8, lamps_on=True)
        return Weather(kind, light, (186, 190, 194), (196, 200, 202), 1.0, (196, 200, 202), exposure, noise, blur,
                       0.0, 0.2)  # fmt: skip
    light = Light(up, 0.46, 0.1, (0.88, 0.84, 1.02), 0.005, (150.0, 116.0, 112.0), shadow=0.68, lamps_on=True)
    return Weather(kind, light, (46, 52, 92), (226, 140, 92), float(rng.uniform(0.2, 0.6)), (150, 110, 120),
                   exposure * 1.05, noise + 2.0, blur, 0.0, 0.0)  # fmt: skip
