"""How the system grows with streams and with the size of pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median

from perception.requests import perceive_request
from perception.v1 import perception_pb2

from loadtest.bench.cameras import Cameras, jain
from loadtest.bench.frames import HEIGHT, WIDTH, frames_for, scaled
from loadtest.bench.pairs import Measured, Samples
from loadtest.bench.result import Comparison, Findings, Plot, Table
from loadtest.bench.run import Run
from loadtest.bench.system import System, system
from loadtest.plan import Closed, Streams
from loadtest.result import Result
from loadtest.sources import Frames
from services.stack.supervisor import StackError

PROFILE = "demo"
STREAMS = (1, 4, 16, 64)
SIZES = {"480p": (480, 640), "720p": (720, 1280), "1080p": (1080, 1920), "1440p": (1440, 2560), "4K": (2160, 3840)}
_SMALL = SIZES["480p"]
_SHARE_OF_CAPACITY = 0.5
_CALLERS = 6
_TURNS = 10
"""Of every stream, at the least, for its share to mean something."""
_MOST_SECONDS = 120.0
_DECODED_BYTES = HEIGHT * WIDTH * 3
_QUANTITIES = (
    ("p50", "median latency", "ms"),
    ("p90", "90th percentile of latency", "ms"),
    ("cpu", "CPU time per frame", "ms"),
)

ABOUT = f"""\
The whole system with the models of `{PROFILE}`. **Streams**: {", ".join(map(str, STREAMS))} cameras that share the same
load, half of what the system can do with six callers, in frames of 640 x 480, in even steps; so what changes is their
number alone. **Sizes**: the same frames from 480p to 4K, one at a time, against 480p. **Memory** is what the gateway
shares with no other process: before there is a stream, with {STREAMS[-1]} that have had one frame answered and wait,
and the most while all of them send 1080p frames as fast as they are answered. It keeps up to 64 MiB of what it once
used, which streams fill first: one that needs less than 1 MiB may show as nothing. Pictures in shared memory, at most
16, are those of all streams and not in these figures. **Fairness**: {STREAMS[-1]} streams on one gateway that always
have a frame waiting, detection alone, and for so long that each has {_TURNS} turns or more; a fair share is what each
would get if all got the same, and Jain's index is 1 then."""


def measure(run: Run) -> Findings:
    """Measures growth, memory and fairness in one run of the system."""
    counts = run.pick(STREAMS, (STREAMS[0], STREAMS[-1]))
    sizes = run.pick(tuple(SIZES), ("480p", "1080p", "4K"))
    # On a slow machine the last stream is open long after the first one had its frame answered.
    settings = {"gateway": {"MAX_STREAMS": str(2 * STREAMS[-1]), "STREAM_IDLE_SECONDS": "600"}}
    with ExitStack() as stack:
        frames = stack.enter_context(frames_for(PROFILE))
        small = stack.enter_context(scaled(frames, *_SMALL))
        pictures = {size: stack.enter_context(scaled(frames, *SIZES[size])) for size in sizes}
        running = stack.enter_context(system(run, PROFILE, settings))
        memory = asyncio.run(_memory(run, running, frames))
        shares = asyncio.run(_fairness(run, running, small))
        by_count = _by_streams(run, running, small, counts)
        by_size = _by_size(run, running, pictures)
    fair = sum(shares) / len(shares)
    idle, active = memory["idle"] / 2**20, memory["active"] / 2**20
    values = {
        "idle_stream_mib": idle,
        "active_stream_frames": memory["active"] / frames.mean_bytes,
        "active_stream_decoded_frames": memory["active"] / _DECODED_BYTES,
        "least_share": min(shares) / fair if fair else 0.0,
        "jain": jain(shares),
    }
    few = f"One of the {STREAMS[-1]} streams had only {min(shares)} turns: a turn more or less makes much of its share."
    notes = (few,) if min(shares) < _TURNS else ()
    return Findings(
        about=ABOUT,
        comparisons=(
            *_compare(by_count, counts, "streams", " streams"),
            *_compare(by_size, sizes, "size", ""),
        ),
        tables=(
            Table(
                title=f"With {STREAMS[-1]} streams on one gateway",
                columns=("what", "found"),
                rows=(
                    ("memory of an idle stream", f"{idle:.2f} MiB"),
                    ("memory of an active stream", f"{active:.2f} MiB"),
                    ("the same in frames as they are sent", f"{values['active_stream_frames']:.2f}"),
                    ("the same in frames as pixels", f"{values['active_stream_decoded_frames']:.2f}"),
                    ("mean size of a frame as it is sent", f"{frames.mean_bytes / 2**20:.2f} MiB"),
                    ("size of a frame as pixels", f"{_DECODED_BYTES / 2**20:.2f} MiB"),
                    ("scenes that each stream got, least to most", f"{min(shares)} to {max(shares)}"),
                    ("least, by a fair share", f"{values['least_share']:.2f}"),
                    ("Jain's index", f"{values['jain']:.4f}"),
                ),
            ),
        ),
        plots=(
            _lines("scale-streams", "More streams, the same load", "streams", list(map(str, counts)), by_count),
            _lines(
                "scale-sizes",
                "Larger frames, one at a time",
                "megapixels",
                [f"{SIZES[size][0] * SIZES[size][1] / 1e6:.2g}" for size in sizes],
                by_size,
            ),
        ),
        values=values,
        notes=notes,
    )


def _by_streams(run: Run, running: System, frames: Frames, counts: Sequence[int]) -> Samples:
    seconds = run.pick(8.0, 4.0)
    with run.progress("what the system can do", 1) as advance:
        rate = _SHARE_OF_CAPACITY * running.drive(Closed(clients=_CALLERS), frames, seconds).throughput
        advance()
    if not rate:
        raise StackError(f"no frame was answered in {seconds:g} s")
    # So many frames of a stream at once that one camera can bring as many as 64.
    arms = {
        str(count): _arm(running, frames, Streams(cameras=count, rate=rate / count, max_in_flight=8), seconds)
        for count in counts
    }
    return run.interleave("streams", arms, run.pick(3, 2))


def _by_size(run: Run, running: System, pictures: dict[str, Frames]) -> Samples:
    arms = {size: _arm(running, frames, Closed(clients=1), run.pick(5.0, 3.0)) for size, frames in pictures.items()}
    return run.interleave("sizes", arms, run.pick(3, 2))


def _arm(running: System, frames: Frames, load: Closed | Streams, seconds: float) -> Callable[[], Measured]:
    def drive() -> Measured:
        result = running.drive(load, frames, seconds)
        return {
            "p50": result.latency.p50 * 1e3,
            "p90": result.latency.p90 * 1e3,
            "cpu": _cpu_ms_per_frame(result),
        }

    return drive


def _cpu_ms_per_frame(result: Result) -> float:
    seconds = result.cpu_seconds_per_frame
    if seconds is None or result.failed or not result.scenes:
        raise StackError(f"{result.scenes} scenes and {result.failed} errors in {result.plan.seconds:g} s")
    return seconds * 1e3


async def _memory(run: Run, running: System, frames: Frames) -> dict[str, float]:
    """Bytes of the gateway's memory per idle and per active stream."""
    requests = _requests(frames, ())
    count = STREAMS[-1]
    # What any load makes the process take once and for all is no stream's.
    async with Cameras(running.gateway, requests, 8) as few:
        await few.saturate(run.pick(8.0, 4.0))
    with run.progress("memory of streams", 2) as advance:
        before = running.private_bytes("gateway")
        async with Cameras(running.gateway, requests, count) as cameras:
            advance()
            idle = running.private_bytes("gateway")
            seen: list[int] = [idle]
            await cameras.saturate(run.pick(20.0, 6.0), lambda: seen.append(running.private_bytes("gateway")))
            advance()
    return {"idle": max(0.0, (idle - before) / count), "active": max(0.0, (max(seen) - before) / count)}


async def _fairness(run: Run, running: System, frames: Frames) -> list[int]:
    """Scenes that each of many streams got."""
    scenes = run.pick(_TURNS + 2, 2) * STREAMS[-1]
    with run.progress("fairness between streams", 1) as advance:
        async with Cameras(running.gateway, _requests(frames, ("detection",)), STREAMS[-1]) as cameras:
            shares = await cameras.saturate(_MOST_SECONDS, scenes=scenes)
        advance()
    return shares


def _requests(frames: Frames, tasks: Sequence[str]) -> list[perception_pb2.PerceiveRequest]:
    return [perceive_request(path.read_bytes(), tasks, None, "frame") for path in frames.paths]


def _compare(samples: Samples, labels: Sequence[object], id: str, unit: str) -> list[Comparison]:
    """Each against the first."""
    names = [str(label) for label in labels]
    named = {f"{name}{unit}": samples[name] for name in names}
    first, *others = named
    return [
        Comparison.of(
            named,
            other,
            first,
            key,
            id=f"{id}.{other.removesuffix(unit)}.{key}",
            case=f"{other} by {first}",
            quantity=quantity,
            unit="ms",
        )
        for other in others
        for key, quantity, _ in _QUANTITIES
    ]


def _lines(name: str, title: str, axis: str, labels: Sequence[str], samples: Samples) -> Plot:
    return Plot(
        name=name,
        title=title,
        kind="lines",
        label_axis=axis,
        value_axis="ms",
        labels=tuple(labels),
        series={
            quantity: tuple(median(values[key]) for values in samples.values()) for key, quantity, _ in _QUANTITIES
        },
        spread={
            quantity: tuple((min(values[key]), max(values[key])) for values in samples.values())
            for key, quantity, _ in _QUANTITIES
        },
    )
