"""What to measure: which load on which system, and for how long."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from perception.caller import NOBODY, Caller
from perception.requests import Resolution
from pydantic import BaseModel, ConfigDict, Field

Arrivals = Literal["poisson", "fixed", "cameras"]
"""When frames come: at random and independent of each other, as from very many cameras; in even steps; or as from a few
cameras, each in even steps that begin at random, because nobody tunes them to each other."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A value of plans and results: fixed once it is made, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Open(Part):
    """Frames come when they come, whether the system keeps up or not: `rate` a second, each a call of its own."""

    kind: Literal["open"] = "open"
    rate: Positive
    arrivals: Arrivals = "poisson"


class Closed(Part):
    """Each of `clients` sends its next frame when it has the answer to the last one."""

    kind: Literal["closed"] = "closed"
    clients: Count


class Streams(Part):
    """Each of `cameras` sends `rate` frames a second over a stream of its own.

    deadline_seconds, max_in_flight: as in `StreamOptions`; the gateway's defaults where they are None.
    """

    kind: Literal["streams"] = "streams"
    cameras: Count
    rate: Positive
    arrivals: Arrivals = "fixed"
    deadline_seconds: Positive | None = None
    max_in_flight: Count | None = None
    track: bool = True


Load = Annotated[Open | Closed | Streams, Field(discriminator="kind")]


class Plan(Part):
    """One measurement.

    caller: how the gateway is shown who drives it. seconds: the window that counts, after `warmup_seconds` that do not.
    processes: client processes that share the load. timeout_seconds: of a call, and after the last frame of a stream.
    tasks: what to ask for, all that the system has where none is named. resolution: the grid of the maps in the
    answers. seed: of random arrivals.
    """

    address: str = "localhost:50050"
    caller: Caller = NOBODY
    load: Load
    seconds: Positive = 30.0
    warmup_seconds: float = Field(3.0, ge=0, allow_inf_nan=False)
    processes: Count = Field(default_factory=lambda: max(1, (os.cpu_count() or 1) // 4))
    timeout_seconds: Positive = 30.0
    tasks: tuple[str, ...] = ()
    resolution: Resolution = "frame"
    seed: int = Field(0, ge=0)


def offered_rate(load: Open | Closed | Streams) -> float | None:
    """Frames a second that a load offers; None where that follows from how fast the system answers."""
    match load:
        case Open():
            return load.rate
        case Streams():
            return load.rate * load.cameras
        case Closed():
            return None


def describe(load: Open | Closed | Streams) -> str:
    """A load in a few words, for titles."""
    match load:
        case Open():
            return f"open loop, {load.rate:g} frames/s, {load.arrivals} arrivals"
        case Streams():
            return f"{load.cameras} streams of {load.rate:g} frames/s, {load.arrivals} arrivals"
        case Closed():
            return f"closed loop, {load.clients} clients"
