"""The street world: a camera drives along a road. The layout is drawn once; a frame is a function of its index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes import roadside
from models.datasets.scenes.backdrop import Ground, shadow_outline, sky
from models.datasets.scenes.camera import Camera
from models.datasets.scenes.canvas import Canvas, stuff_id, thing_id, to_fixed
from models.datasets.scenes.light import Lens
from models.datasets.scenes.mesh import Point
from models.datasets.scenes.street_ground import Street
from models.datasets.scenes.street_layout import Actor, StreetLayout
from models.datasets.scenes.weather import make_weather
from models.datasets.scenes.world import FRAMES_PER_SECOND, SMALLEST_DRAWN, Frame, size_factor

VIEW = 130.0
"""Metres ahead of the camera that are laid out."""

Items = list[tuple[float, Callable[[], None]]]
Outlines = list[NDArray[np.float64]]


class StreetWorld:
    """A street for a sequence of ``length`` frames of ``size`` (width, height)."""

    def __init__(self, rng: np.random.Generator, length: int, size: tuple[int, int]) -> None:
        width, height = size
        weather = make_weather(rng)
        self._light = weather.light
        self._speed = float(rng.uniform(7.0, 11.0))
        self._camera = Camera(
            position=(1.75, float(rng.uniform(1.5, 2.3)), 0.0),
            pitch=float(rng.uniform(0.0, 0.06)),
            focal=float(rng.uniform(0.82, 1.0)) * min(width, height * 4 / 3),
            centre=(width / 2, height * float(rng.uniform(0.44, 0.5))),
        )
        self._horizon = self._camera.centre[1] - self._camera.focal * float(np.tan(self._camera.pitch))
        self._smallest = SMALLEST_DRAWN * size_factor(size)
        end = self._speed * length / FRAMES_PER_SECOND + VIEW
        self._layout = StreetLayout(rng, self._speed, end, self._light.lamps_on)
        self._street = Street(rng, self._layout.road, self._layout.junctions, VIEW, weather.wet)
        self._bounce = rng.uniform(0, 2 * np.pi, 2)
        self._hills = 3.0 + np.cumsum(rng.normal(0, 0.8, 64)).clip(-2.0, 6.0)
        self._sky = sky(rng, size, self._horizon, weather.zenith, weather.low_sky, weather.clouds, weather.cloud_colour)
        over_the_middle = replace(self._camera, position=(0.0, self._camera.position[1], 0.0))
        self._ground = Ground(rng, size, over_the_middle, self._light, round(self._horizon) + 1, grain=10.0)
        # Last, because how many numbers it draws depends on the size, and nothing else shall.
        self._lens = Lens(size, rng, weather.exposure, weather.noise, weather.blur, weather.rain)

    def render(self, index: int, rng: np.random.Generator) -> Frame:
        """Paint frame ``index``; ``rng`` is the frame's own and moves only the sensor's noise."""
        time = index / FRAMES_PER_SECOND
        along = self._speed * time
        camera = self._camera_at(time, along)
        canvas = Canvas(self._sky, stuff_id("sky"))
        items: Items = []
        shadows: Outlines = []
        self._place_houses(canvas, camera, along, items, shadows)
        self._place_trees(canvas, camera, along, items, shadows)
        self._place_actors(canvas, camera, along, time, items, shadows)
        self._paint_hills(canvas, camera)
        self._street.paint(canvas, camera, along)
        self._ground.finish(canvas, camera, (camera.position[0], along), shadows)
        for _, paint in sorted(items, key=lambda item: -item[0]):
            paint()
        things = tuple(actor.thing for actor in self._layout.actors)
        return Frame(self._lens.apply(canvas.image, rng), canvas.ids, things)

    def _camera_at(self, time: float, along: float) -> Camera:
        """The camera in its lane, with the small movements of a car on its springs."""
        bounce = 0.004 * np.sin(5.1 * time + self._bounce[0]) + 0.002 * np.sin(9.7 * time + self._bounce[1])
        x = float(self._layout.road.middle(along)) + self._camera.position[0]
        return replace(
            self._camera,
            position=(x, self._camera.position[1], along),
            pitch=self._camera.pitch + float(bounce),
            yaw=self._layout.road.direction(along + 8.0),
        )

    def _paint_hills(self, canvas: Canvas, camera: Camera) -> None:
        """A far ridge of trees all along the horizon; it only moves when the camera turns."""
        bearing = np.linspace(-1.4, 1.4, len(self._hills)) - camera.yaw
        x = camera.centre[0] + camera.focal * bearing
        horizon = camera.centre[1] - camera.focal * np.tan(camera.pitch)
        top = horizon - np.maximum(self._hills, 0.8) * camera.focal / 110.0
        ridge = np.concatenate([np.stack([x, top], axis=1), [[x[-1], horizon + 3], [x[0], horizon + 3]]])
        canvas.polygons([to_fixed(ridge)], self._light.colour((74, 98, 60), 90.0), stuff_id("vegetation"))

    def _place_houses(self, canvas: Canvas, camera: Camera, along: float, items: Items, shadows: Outlines) -> None:
        for house in self._layout.houses:
            if not along + 1.0 < house.end or house.start > along + VIEW:
                continue
            ends = np.array([house.start, house.end])
            line = np.stack([self._layout.road.middle(ends), ends], axis=1)

            def paint(house: roadside.House = house, line: NDArray[np.float64] = line) -> None:
                roadside.draw_house(canvas, camera, self._light, house, line)

            items.append((house.end - along, paint))
            if self._light.direction[0] * house.lateral > 0 and house.start < along + 60:
                front = line + np.array([[house.lateral, 0.0]])
                shadows.append(shadow_outline(self._light, front, house.height))

    def _place_trees(self, canvas: Canvas, camera: Camera, along: float, items: Items, shadows: Outlines) -> None:
        for place, lateral, tree in self._layout.trees:
            distance = place - along
            if not 1.5 < distance < 100:
                continue
            position = (float(self._layout.road.middle(place)) + lateral, 0.0, place)

            def paint(tree: roadside.Tree = tree, position: tuple[float, float, float] = position) -> None:
                roadside.draw_tree(canvas, camera, self._light, tree, position)

            items.append((distance, paint))
            if distance < 50:
                fall = shadow_outline(self._light, np.array([[position[0], position[2]]]), tree.crown)
                angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
                round_crown = 1.6 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
                shadows.append(fall[1] + round_crown)

    def _place_actors(
        self, canvas: Canvas, camera: Camera, along: float, time: float, items: Items, shadows: Outlines
    ) -> None:
        for actor in self._layout.actors:
            place, lateral = actor.place(time)
            distance = place - along
            half_width, half_length, height = actor.figure.extent
            turn = abs(float(np.cos(actor.heading)))
            reach = half_length * turn + half_width * (1 - turn)
            if not 1.0 - reach < distance < VIEW or abs(lateral) > 45:
                continue
            across = 2 * (half_width * turn + half_length * (1 - turn))
            if across * height * (camera.focal / max(distance, 1.0)) ** 2 < self._smallest:
                continue
            position = (float(self._layout.road.middle(place)) + lateral, 0.0, place)
            yaw = self._layout.road.direction(place) + actor.heading

            def paint(actor: Actor = actor, position: Point = position, yaw: float = yaw) -> None:
                segment_id = thing_id(actor.thing.track_id)
                actor.figure.draw(canvas, camera, self._light, position, yaw, time, segment_id)

            if _may_be_seen(camera, position, half_width + half_length):
                items.append((distance, paint))
            forward = np.array([np.sin(yaw), np.cos(yaw)]) * half_length
            right = np.array([np.cos(yaw), -np.sin(yaw)]) * half_width
            corners = [s * forward + t * right for s, t in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
            footprint = np.array([position[0], position[2]]) + 1.06 * np.array(corners)
            shadows.append(shadow_outline(self._light, footprint, 0.8 * height))


def _may_be_seen(camera: Camera, position: Point, radius: float) -> bool:
    """Whether anything within ``radius`` metres of a place can be between the left and right border of the picture."""
    x, _, z = camera.rotation @ (np.array(position) - camera.eye)
    return bool(abs(x) - radius < (z + radius) * camera.centre[0] / camera.focal + radius)
