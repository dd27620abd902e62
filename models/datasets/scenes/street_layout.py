"""Where everything in a street stands and how it moves: drawn once for a sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes import people, roadside, vehicles
from models.datasets.scenes.world import Figure, Thing


@dataclass(frozen=True)
class Road:
    """A gently winding road: half width of the carriageway, pavement width and the winding, all in metres."""

    half: float
    pavement: float
    amplitude: float
    period: float
    phase: float

    def middle(self, along: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """World X of the middle line at these distances."""
        return np.asarray(self.amplitude * np.sin(2 * np.pi * np.asarray(along) / self.period + self.phase))

    def direction(self, along: float) -> float:
        """Yaw of the road at this distance."""
        slope = self.amplitude * 2 * np.pi / self.period * np.cos(2 * np.pi * along / self.period + self.phase)
        return float(np.arctan(slope))


@dataclass(frozen=True)
class Actor:
    """A thing that moves in a straight line in road coordinates.

    At ``time`` (s) it is ``along`` metres down the road and ``lateral`` metres right of its middle line, and moves with
    ``speed`` (m/s) in both; ``heading`` is its yaw relative to the road. ``sway`` (m) lets a leading vehicle fall back
    and catch up.
    """

    thing: Thing
    figure: Figure
    along: float
    lateral: float
    heading: float
    speed: tuple[float, float]
    time: float
    sway: float = 0.0

    def place(self, time: float) -> tuple[float, float]:
        """Metres along the road and to the right of its middle line at ``time`` seconds."""
        elapsed = time - self.time
        breath = self.sway * float(np.sin(0.7 * time + self.thing.track_id))
        return self.along + self.speed[0] * elapsed + breath, self.lateral + self.speed[1] * elapsed


class StreetLayout:
    """Houses, trees and actors from the start of the road to ``end`` metres, met by a camera that drives ``speed``."""

    def __init__(self, rng: np.random.Generator, speed: float, end: float, lamps_on: bool) -> None:
        self._rng = rng
        self._speed = speed
        self._end = end
        self._lamps_on = lamps_on
        self._parking = (bool(rng.random() < 0.6), bool(rng.random() < 0.75))
        self.road = Road(
            half=5.6 if any(self._parking) else 4.0,
            pavement=float(rng.uniform(2.4, 3.4)),
            amplitude=float(rng.uniform(0.0, 4.0)),
            period=float(rng.uniform(150, 260)),
            phase=float(rng.uniform(0, 2 * np.pi)),
        )
        self.verge = float(rng.uniform(0.0, 4.0))
        self.junctions = self._places((22, 70), (70, 120))
        self.houses: list[roadside.House] = []
        self.trees: list[tuple[float, float, roadside.Tree]] = []
        self.actors: list[Actor] = []
        for side in (-1.0, 1.0):
            self._build_side(side)
            self._park_cars(side)
            self._let_people_walk(side)
        self._let_vehicles_drive()
        self._let_cyclists_ride()
        self._cross_junctions()
        self._put_up_signs()

    def _places(self, first: tuple[float, float], step: tuple[float, float]) -> list[float]:
        """Places along the road: the first one and the steps between them drawn from two ranges (m)."""
        places = []
        at = float(self._rng.uniform(*first))
        while at < self._end:
            places.append(at)
            at += float(self._rng.uniform(*step))
        return places

    def _at_junction(self, place: float, margin: float) -> bool:
        return any(abs(place - junction) < margin for junction in self.junctions)

    def _add(
        self,
        category: str,
        figure: Figure,
        along: float,
        lateral: float,
        heading: float,
        speed: tuple[float, float] = (0.0, 0.0),
        time: float | None = None,
        sway: float = 0.0,
    ) -> None:
        """An actor that is at its place at ``time``, or else when the camera gets there."""
        when = along / self._speed if time is None else time
        thing = Thing(len(self.actors) + 1, category, {})
        self.actors.append(Actor(thing, figure, along, lateral, heading, speed, when, sway))

    def _build_side(self, side: float) -> None:
        rng, edge = self._rng, self.road.half + self.road.pavement
        at = -20.0
        while at < self._end:
            span = float(rng.uniform(9, 20))
            green = rng.random() < 0.18
            if green:
                for place in np.arange(at, at + span, 4.0):
                    lateral = side * (edge + self.verge + float(rng.uniform(1.0, 8.0)))
                    self.trees.append((float(place), lateral, roadside.make_tree(rng)))
            elif not any(at - 8 < junction < at + span + 8 for junction in self.junctions):
                self.houses.append(roadside.make_house(rng, at, at + span, side * (edge + self.verge + 0.2)))
            at += span + (0.3 if rng.random() < 0.7 else float(rng.uniform(1, 5)))
        for place in self._places((2, 14), (8, 22)):
            if not self._at_junction(place, 6.0):
                self.trees.append((place, side * (edge - 0.5), roadside.make_tree(rng)))

    def _park_cars(self, side: float) -> None:
        if not self._parking[int(side > 0)]:
            return
        for place in self._places((3, 9), (6.4, 11)):
            if not self._at_junction(place, 9.0) and self._rng.random() < 0.75:
                lateral = side * (self.road.half - 1.15 + float(self._rng.uniform(-0.1, 0.1)))
                car = vehicles.make_car(self._rng, lamps_on=False)
                self._add("car", car, place, lateral, 0.0 if side > 0 else np.pi)

    def _let_people_walk(self, side: float) -> None:
        rng = self._rng
        for place in self._places((3, 14), (4, 15)):
            lateral = side * (self.road.half + float(rng.uniform(0.6, self.road.pavement - 0.9)))
            direction = float(rng.choice([-1.0, 1.0]))
            walker = people.Pedestrian(people.make_person(rng))
            self._add("pedestrian", walker, place, lateral, 0.0 if direction > 0 else np.pi, (direction * 1.3, 0.0))

    def _vehicle(self, truck_share: float) -> tuple[str, vehicles.Vehicle]:
        if self._rng.random() < truck_share:
            return "truck", vehicles.make_truck(self._rng, self._lamps_on)
        return "car", vehicles.make_car(self._rng, self._lamps_on)

    def _let_vehicles_drive(self) -> None:
        oncoming = float(self._rng.uniform(6, 11))
        for place in self._places((6, 30), (13, 48)):
            self._add(*self._vehicle(0.25), place, -1.9, np.pi, (-oncoming, 0.0))
        if self._rng.random() < 0.6:
            gap = float(self._rng.uniform(11, 24))
            self._add(*self._vehicle(0.4), gap, 1.75, 0.0, (self._speed, 0.0), time=0.0, sway=2.0)

    def _let_cyclists_ride(self) -> None:
        speed = float(self._rng.uniform(3.5, 5.5))
        for place in self._places((7, 40), (22, 60)):
            self._add("cyclist", people.make_cyclist(self._rng), place, 3.1, 0.0, (speed, 0.0))
        for place in self._places((9, 50), (25, 70)):
            self._add("cyclist", people.make_cyclist(self._rng), place, -3.2, np.pi, (-speed, 0.0))

    def _cross_junctions(self) -> None:
        rng = self._rng
        for junction in self.junctions:
            for direction in (-1.0, 1.0):
                if rng.random() < 0.7:
                    category, vehicle = self._vehicle(0.25)
                    velocity = (0.0, direction * float(rng.uniform(4, 8)))
                    when = (junction - float(rng.uniform(15, 32))) / self._speed
                    place = junction + direction * 1.8
                    self._add(category, vehicle, place, 0.0, direction * np.pi / 2, velocity, when)
            for _ in range(int(rng.integers(1, 4))):
                direction = float(rng.choice([-1.0, 1.0]))
                walker = people.Pedestrian(people.make_person(rng))
                place, lateral = junction - 6.5 + float(rng.uniform(-1.2, 1.2)), float(rng.uniform(-2, 2))
                when = (junction - float(rng.uniform(12, 22))) / self._speed
                self._add("pedestrian", walker, place, lateral, direction * np.pi / 2, (0.0, direction * 1.4), when)
            if rng.random() < 0.6:
                direction = float(rng.choice([-1.0, 1.0]))
                when = (junction - float(rng.uniform(12, 22))) / self._speed
                rider = people.make_cyclist(rng)
                self._add("cyclist", rider, junction - 3.2, 0.0, direction * np.pi / 2, (0.0, 4.0 * direction), when)

    def _put_up_signs(self) -> None:
        for place in self._places((8, 20), (13, 30)):
            side = 1.0 if self._rng.random() < 0.7 else -1.0
            self._add("traffic sign", roadside.make_sign(self._rng), place, side * (self.road.half + 0.4), 0.0)
