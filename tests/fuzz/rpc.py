"""Every RPC of every service, of real processes, with messages that nobody would send."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import cv2
import grpc
import numpy as np
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from perception.convert import image_to_message
from perception.v1 import (
    camera_pb2,
    classification_pb2,
    detection_pb2,
    instance_segmentation_pb2,
    model_pb2,
    perception_pb2,
    semantic_segmentation_pb2,
)

from services.stack.layout import Ports, processes, tasks_in
from services.stack.supervisor import Supervisor
from tests.fuzz.messages import random_message
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import picture_files
from tests.support.camera_agent import AgentProcess
from tests.support.contract_models import picture, write_repository
from tests.support.service import GRPC_CANCELLATION, peak_megabytes
from tests.support.stack import TAXONOMY, free_range

NAMED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
"""What a call may end with; a defect is INTERNAL or UNKNOWN, and DEADLINE_EXCEEDED one that hangs."""
CALL_SECONDS = 60.0
WATCH_SECONDS = 3.0
"""Of a call that sends answers until its caller goes, some of which are a year apart if the caller wants it so."""
ROOM_BYTES = 3 * 2**30
"""Address space that a process may take beyond what it has when it serves."""
_LIMITS = {"MAX_IMAGE_PIXELS": "2000000"}
_WORDS = ("", "high", "urgent", "~", "a" * 3000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "%00", "{}")
_KEYS = ("x-request-id", "x-priority", "traceparent", "tracestate", "user-agent", "x-trace-id")
_MODULES = {
    # Health and reflection are every process's own, and the same.
    "gateway": (perception_pb2, health_pb2, reflection_pb2),
    "detection": (detection_pb2, model_pb2),
    "instance_segmentation": (instance_segmentation_pb2, model_pb2),
    "semantic_segmentation": (semantic_segmentation_pb2, model_pb2),
    "classification": (classification_pb2, model_pb2),
    "camera": (camera_pb2,),
}


@dataclass(frozen=True)
class Rpc:
    """A method of one process."""

    process: str
    method: MethodDescriptor

    @property
    def path(self) -> str:
        """What gRPC calls it."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


RPCS = tuple(
    Rpc(process, method)
    for process, modules in _MODULES.items()
    for module in modules
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)


@dataclass
class AttackReport:
    """What came of calls. codes: how often each code ended one. found: the call, and what was wrong with it."""

    calls: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)


class System:
    """Gateway, tasks with small models inside of them, and a camera agent; each with a bound on its memory."""

    def __init__(self, directory: Path) -> None:
        taxonomy = directory / "taxonomy.yaml"
        taxonomy.write_text(TAXONOMY)
        repository = write_repository(directory / "repository")
        self._ports = Ports(free_range())
        specs = processes(repository, str(taxonomy), "onnxruntime", self._ports, directory)
        specs = [replace(spec, env={**spec.env, **_LIMITS}) for spec in specs]
        self._logs = directory / "logs"
        self.supervisor = Supervisor(specs, self._logs)
        self._tasks = tasks_in(repository)
        film = directory / "frames"
        film.mkdir()
        cv2.imwrite(str(film / "frame.png"), picture())
        camera = {"name": "gate", "source": str(film), "loop": True, "frames_per_second": 5}
        self.agent = AgentProcess(directory, f"127.0.0.1:{self._ports.gateway}", [camera])
        self.gateway = f"127.0.0.1:{self._ports.gateway}"
        self._stack = ExitStack()

    def __enter__(self) -> System:
        self._stack.enter_context(self.supervisor)
        self.supervisor.start()
        self._stack.enter_context(self.agent)
        addresses = {task: self._ports.task(task) for task in self._tasks}
        addresses |= {"gateway": self._ports.gateway, "camera": self.agent.port}
        self.channels = {name: grpc.insecure_channel(f"127.0.0.1:{port}") for name, port in addresses.items()}
        self._pids = {name: self.supervisor.process(name).pid for name in (*self._tasks, "gateway")}
        self._pids["camera"] = self.agent.process.pid
        for pid in self._pids.values():
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + ROOM_BYTES
            resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self.channels.values():
            channel.close()
        self._stack.close()

    def megabytes(self) -> dict[str, float]:
        """The most memory that each process ever held, in units of 2**20 bytes."""
        return {name: peak_megabytes(pid) for name, pid in self._pids.items()}

    def problems(self) -> list[str]:
        """What is wrong with the processes now: one that ended, does not answer, or logged a defect."""
        ended = [name for name, pid in self._pids.items() if not Path(f"/proc/{pid}/exe").exists()]
        if ended:
            return [f"{name} ended" for name in ended]
        found = []
        request = perception_pb2.PerceiveRequest(image=image_to_message(picture()))
        code, _ = call(self.channels["gateway"], RPCS[0], [request.SerializeToString()], ())
        if code != "OK":
            found.append(f"a good frame is answered {code}")
        texts = {name: (self._logs / f"{name}.log").read_text() for name in self._pids if name != "camera"}
        for name, text in {**texts, "camera": self.agent.log()}.items():
            for line in GRPC_CANCELLATION.sub("", text).splitlines():
                if "Traceback" in line or (line.startswith("{") and json.loads(line)["level"] == "ERROR"):
                    found.append(f"{name} logged {line[:1500]}")
        return found


def attack(system: System, calls: Iterator[int], seed: int) -> AttackReport:
    """Calls in turn every RPC, as often as `calls` says; then looks at how the processes are."""
    report = AttackReport()
    random = Random(seed)
    valid = {rpc.path: list(_valid(rpc.method.input_type)) for rpc in RPCS}
    everything = [message for messages in valid.values() for message in messages]
    pictures = picture_files(20_000)
    for number in calls:
        rpc = RPCS[number % len(RPCS)]
        several = random.randint(1, 6) if rpc.method.client_streaming else 1
        messages = [
            _payload(rpc.method.input_type, valid[rpc.path], everything, pictures, random) for _ in range(several)
        ]
        metadata = [(random.choice(_KEYS), random.choice(_WORDS))] if random.random() < 0.3 else []
        code, answers = call(system.channels[rpc.process], rpc, messages, metadata)
        report.calls += 1
        report.codes[code] = report.codes.get(code, 0) + 1
        inner = [text for answer in answers for text in _failures_inside(rpc.method.output_type, answer)]
        if code not in NAMED or inner:
            sent = b"".join(messages)[:200]
            report.found.append(f"{rpc.process} {rpc.path}: {code} {inner} for {sent!r} with {metadata}")
    report.found += system.problems()
    return report


def call(
    channel: grpc.Channel, rpc: Rpc, messages: Sequence[bytes], metadata: Sequence[tuple[str, str]]
) -> tuple[str, list[bytes]]:
    """Calls an RPC with bytes as they are: the code's name, and the answers, of one that never ends the first."""
    options = {"timeout": CALL_SECONDS, "metadata": metadata, "wait_for_ready": True}
    try:
        if rpc.method.client_streaming:
            stream = channel.stream_stream(rpc.path)(iter(messages), **options)
            return "OK", [bytes(answer) for answer in stream]
        if rpc.method.server_streaming:
            watching = channel.unary_stream(rpc.path)(messages[0], **{**options, "timeout": WATCH_SECONDS})
            # Health tells once, and again when it changes.
            return "OK", _watched(watching, 1 if rpc.method.name == "Watch" else 3)
        return "OK", [bytes(channel.unary_unary(rpc.path)(messages[0], **options))]
    except grpc.RpcError as error:
        return str(error.code().name), []


def _watched(stream: Any, most: int) -> list[bytes]:
    answers: list[bytes] = []
    try:
        while len(answers) < most:
            answers.append(bytes(next(stream)))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
    stream.cancel()
    return answers


def _payload(
    descriptor: Descriptor,
    valid: Sequence[bytes],
    everything: Sequence[bytes],
    pictures: list[bytes],
    random: Random,
) -> bytes:
    kind = random.random()
    if kind < 0.45:
        return bytes(random_message(descriptor, pictures, random).SerializeToString())
    if kind < 0.9 or not everything:
        return mutated(valid, (), random)
    return random.choice((random.randbytes(random.randint(0, 300)), mutated(everything, (), random)))


def _valid(descriptor: Descriptor) -> Iterator[bytes]:
    """Messages that a careful caller would send."""
    image = image_to_message(picture())
    encoded = image_to_message(cv2.imencode(".jpg", np.ascontiguousarray(picture()[..., ::-1]))[1].tobytes())
    made = {
        "PerceiveRequest": [
            perception_pb2.PerceiveRequest(image=shown, panoptic_format=form, resolution=resolution)
            for shown in (image, encoded)
            for form, resolution in ((0, 0), (2, 1), (1, 2))
        ],
        "PerceiveStreamRequest": [
            perception_pb2.PerceiveStreamRequest(
                sequence=number,
                frame=perception_pb2.PerceiveRequest(image=image),
                options=perception_pb2.StreamOptions(camera="gate", track=True) if number == 1 else None,
            )
            for number in (1, 1, 2, 3)
        ],
        "DetectRequest": [detection_pb2.DetectRequest(image=encoded, score_threshold=0.5)],
        "SegmentInstancesRequest": [
            instance_segmentation_pb2.SegmentInstancesRequest(image=image, mask_format=form) for form in (1, 2)
        ],
        "SegmentSemanticsRequest": [semantic_segmentation_pb2.SegmentSemanticsRequest(image=encoded)],
        "ClassifyRequest": [
            classification_pb2.ClassifyRequest(image=image, boxes=[{"x_max": 20.0, "y_max": 20.0}] * boxes, top_k=2)
            for boxes in (0, 3)
        ],
        "WatchCameraRequest": [
            camera_pb2.WatchCameraRequest(camera="gate", include_picture=True, max_frames_per_second=3)
        ],
    }
    for message in made.get(descriptor.name, [None]):
        yield message.SerializeToString() if message else b""


def _failures_inside(descriptor: Descriptor, answer: bytes) -> list[str]:
    """Errors of tasks and frames within an answer that are defects."""
    if descriptor.name == "PerceiveResponse":
        scenes, errors = [perception_pb2.PerceiveResponse.FromString(answer)], []
    elif descriptor.name == "PerceiveStreamResponse":
        streamed = perception_pb2.PerceiveStreamResponse.FromString(answer)
        scenes, errors = [streamed.scene], [(streamed.error.code, streamed.error.message)]
    else:
        return []
    errors += [(status.code, status.reason) for scene in scenes for status in scene.task_status]
    return [f"{code}: {message}" for code, message in errors if code in ("INTERNAL", "UNKNOWN", "FAILED_PRECONDITION")]
