"""The camera agent of a system under harm: its source, what it says of its frames, and the answers that it took."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import simplejpeg
import yaml
from perception.connections import open_channel
from perception.v1 import camera_pb2, camera_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from services.stack.layout import Ports, ProcessSpec, watching
from tests.resilience.offered import RETRYABLE
from tests.support.contract_models import picture
from tests.support.mjpeg_server import mjpeg_camera

CAMERA = "gate"
DEADLINE = 3.0
FRAMES_PER_SECOND = 10
MOST_UNDER_WAY = 3
"""Pictures that a source has written and that no capture has seen when their connection ends."""
_ANSWERED = ("perceived", "dropped", "error", "lost")
_PATIENCE = 60.0


@dataclass(frozen=True)
class Counts:
    """What an agent says became of its camera's frames since it started; `results` as in its metrics."""

    sent: int
    results: Counter[str]

    @property
    def unanswered(self) -> int:
        """Frames that were sent and of which nothing is known yet."""
        return self.sent - sum(self.results[result] for result in _ANSWERED)

    def __str__(self) -> str:
        parts = [f"{self.results[result]} {result}" for result in _ANSWERED]
        return (
            f"{self.sent} sent = {' + '.join(parts)} + {self.unanswered} unanswered; {self.results['skipped']} skipped"
        )


class Agent:
    """A camera agent with one live camera, of a moving picture; from `with` on the camera gives frames."""

    def __init__(self, directory: Path) -> None:
        self._served: list[int] = []
        self._connections = 0
        self._directory = directory
        self._ends: list[int] = []
        self._answers = directory / f"{CAMERA}.jsonl"
        pictures = [simplejpeg.encode_jpeg(picture(box=(x, 8, x + 30, 30)), 95, "RGB") for x in (2, 6, 10, 14, 10, 6)]
        self._camera = mjpeg_camera(pictures, FRAMES_PER_SECOND, served=self._served)

    def __enter__(self) -> Agent:
        self._source = self._camera.__enter__()
        self._has_ended = False
        return self

    def __exit__(self, *_: object) -> None:
        if not self._has_ended:
            self.end_source()

    def end_source(self) -> None:
        """The camera gives no more frames."""
        self._has_ended = True
        self._camera.__exit__(None, None, None)

    def spec(self, ports: Ports, gateway: str) -> ProcessSpec:
        """How a stack starts it; it reaches the gateway by that address."""
        self._ports = ports
        camera = {
            "name": CAMERA,
            "source": self._source,
            "retry_seconds": 0.5,
            "max_retry_seconds": 2.0,
            "connect_seconds": 30,
            "stream": {"deadline_seconds": DEADLINE},
            "sinks": [{"kind": "jsonl", "path": str(self._answers)}],
        }
        told = {
            "gateway": gateway,
            "host": "127.0.0.1",
            "port": ports.camera,
            "metrics_port": ports.metrics("camera"),
            "cameras": [camera],
        }
        path = self._directory / "cameras.yaml"
        path.write_text(yaml.safe_dump(told))
        return watching(ports, path)[0]

    async def counts(self) -> Counts:
        """What it says now. Raises `OSError` or `grpc.RpcError` where it does not answer."""
        return await asyncio.to_thread(self._counts)

    def _counts(self) -> Counts:
        # In this order, so that a frame which is answered meanwhile is not answered before it is sent.
        results = Counter(
            {
                sample.labels["result"]: int(sample.value)
                for sample in scraped(self._ports.metrics("camera"))
                if sample.name == "perception_camera_frames_total"
            }
        )
        return Counts(int(self._status().sent), results)

    def _status(self) -> camera_pb2.CameraStatus:
        with open_channel(f"127.0.0.1:{self._ports.camera}", (), None) as channel:
            answer = camera_pb2_grpc.CameraServiceStub(channel).ListCameras(camera_pb2.ListCamerasRequest(), timeout=20)
        (camera,) = answer.cameras
        return camera

    def captured(self) -> range:
        """How many pictures it can have seen in this life: all that its source gave, or those without the last."""
        served = self._served[self._connections :]
        return range(sum(served) - MOST_UNDER_WAY * len(served), sum(served) + 1)

    async def until_perceived(self) -> None:
        """Waits until a frame was perceived. Raises `TimeoutError` where none is in a minute."""
        async with asyncio.timeout(_PATIENCE):
            while not (await self.counts()).results["perceived"]:  # noqa: ASYNC110  another process sets no event here
                await asyncio.sleep(0.2)

    async def come_to_rest(self) -> Counts:
        """Ends the source; what it says once nothing is unanswered and every answer is in its file, or in a minute."""
        await asyncio.to_thread(self.end_source)
        end = time.monotonic() + _PATIENCE
        while True:
            counts = await self.counts()
            written = len(self.lives()[-1])
            if time.monotonic() > end or (counts.unanswered == 0 and written >= counts.sent - counts.results["lost"]):
                return counts
            await asyncio.sleep(0.2)

    def was_killed(self) -> None:
        """Its process is dead; what its file gets from now on, and whoever asks its source, is of another life."""
        self._ends.append(len(self._lines()))
        self._connections = len(self._served)

    def lives(self) -> list[list[dict[str, Any]]]:
        """The answers that it took, a line of its file each; one list for each of its lives."""
        lines = self._lines()
        return [
            [json.loads(line) for line in lines[first:last]] for first, last in pairwise([0, *self._ends, len(lines)])
        ]

    def _lines(self) -> list[str]:
        return self._answers.read_text().splitlines() if self._answers.exists() else []


def faults_of(answers: list[dict[str, Any]], overtime: float) -> list[str]:
    """What must not be among answers: an error that forbids another try, and a scene that came too late."""
    return [
        f"frame {answer['sequence']}: {answer['result']} {answer.get('reason', '')} at {answer['age_seconds']} s"
        for answer in answers
        if (answer["result"] == "error" and answer["reason"] not in RETRYABLE)
        or (answer["result"] == "scene" and answer["age_seconds"] > DEADLINE + overtime)
        or answer["result"] not in ("scene", "dropped", "error")
    ]


def without_answer(answers: list[dict[str, Any]]) -> int:
    """Frames of one life whose numbers are missing among its answers."""
    return answers[-1]["sequence"] - len(answers) if answers else 0


def answered_at(answer: dict[str, Any]) -> float:
    """When the gateway gave an answer, in seconds since 1970."""
    return datetime.fromisoformat(answer["capture_time"]).timestamp() + float(answer["age_seconds"])


def scraped(metrics_port: int) -> list[Sample]:
    """All samples of the metrics of a process of this machine. Raises `OSError` where it does not answer."""
    with urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
