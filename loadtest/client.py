"""A client process: `python -m loadtest.client JOB`, where JOB is the file of a `Job`.

It speaks in lines of JSON on standard output: `READY`, then every second what it has counted since the last time, and
at the end `DONE`. It starts at the moment of the monotonic clock that it reads from standard input, and ends when that
ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvloop
from perception.requests import perceive_request

from loadtest.book import Book
from loadtest.drivers import Share, drive
from loadtest.plan import Part, Plan

TOLD_SECONDS = 1.0
READY, DONE = {"state": "ready"}, {"state": "done"}


class Job(Part):
    """What a client process is told. frames: encoded pictures."""

    plan: Plan
    process: int
    frames: tuple[Path, ...]


async def main(job: Job) -> None:
    """Does the job."""
    plan = job.plan
    requests = [perceive_request(path, plan.tasks, None, plan.resolution) for path in job.frames]
    _say(READY)
    begin = float(await asyncio.to_thread(sys.stdin.readline))
    counted = begin + plan.warmup_seconds
    book = Book(counted, counted + plan.seconds)
    share = Share(plan, job.process, requests, begin, plan.warmup_seconds + plan.seconds)
    # Whoever started this process closes its input to end it, or has died.
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), sys.exit)
    driving = asyncio.create_task(drive(share, book))
    while not driving.done():
        await asyncio.wait((driving,), timeout=TOLD_SECONDS)
        _say({"in_flight": book.in_flight, **book.take().encode()})
    driving.result()
    _say(DONE)
    # What it used can still be read while it lives.
    await asyncio.Event().wait()


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    uvloop.run(main(Job.model_validate_json(Path(sys.argv[1]).read_text())))
