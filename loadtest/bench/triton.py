"""Each task service against raw Triton over gRPC, with the same tensors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from statistics import median
from typing import Any

import grpc
from perception.channels import channel_options
from perception.v1 import (
    classification_pb2,
    classification_pb2_grpc,
    detection_pb2,
    detection_pb2_grpc,
    geometry_pb2,
    image_pb2,
    instance_segmentation_pb2,
    instance_segmentation_pb2_grpc,
    semantic_segmentation_pb2,
    semantic_segmentation_pb2_grpc,
)
from tritonclient.grpc import InferenceServerClient, InferInput

from loadtest.bench.floor import decoded, model_input, models_of
from loadtest.bench.frames import frames_for
from loadtest.bench.pairs import Measured, Samples, cpu_time
from loadtest.bench.result import Comparison, Findings, Table, bars
from loadtest.bench.run import Run
from loadtest.bench.system import MODELS, SERVER, Meter, System, system
from loadtest.sources import Frames
from services.runtime.engines import Model

PROFILE = "demo"
_JPEG, _PIXELS, _RAW = "service, 1080p JPEG", "service, pixels", "raw Triton"
_LARGEST_MESSAGE = 2**26

ABOUT = f"""\
One call at a time, with the models of `{PROFILE}`. **Raw Triton** is NVIDIA's own Python client with the model's input
tensor ready; it gets tensors back. The **service** gets the same tensor as the pixels of a picture (of the model's
size, so that nothing is resized) and answers with objects or maps; and the same frame as a **1080p JPEG**, as cameras
send it, which it decodes and resizes. CPU time is that of the service, of Triton, and of the caller together."""

Call = Callable[[], object]


def measure(run: Run) -> Findings:
    """Measures every task of the profile."""
    comparisons: list[Comparison] = []
    rows: list[tuple[str, ...]] = []
    values: dict[str, float] = {}
    spreads: dict[str, tuple[float, float]] = {}
    with frames_for(PROFILE) as frames, system(run, PROFILE) as running:
        decoding = _decoding_ms(frames)
        for task, (model, _) in models_of(running.repository).items():
            samples = _measure_task(run, running, frames, task, model)
            comparisons += _compare(task, samples)
            service = {arm: median(samples[arm]["service"]) for arm in (_JPEG, _PIXELS)}
            triton = {arm: median(samples[arm]["triton"]) for arm in (_JPEG, _PIXELS, _RAW)}
            beyond = service[_JPEG] - decoding
            values |= {f"{task}.beyond_ms": beyond, f"{task}.service_ms": service[_JPEG]}
            rounds = samples[_JPEG]["service"]
            spreads[f"{task}.beyond_ms"] = min(rounds) - decoding, max(rounds) - decoding
            cells = (service[_JPEG], beyond, service[_PIXELS], triton[_PIXELS], triton[_RAW])
            rows.append((task, *(f"{cell:.1f}" for cell in cells)))
    return Findings(
        about=ABOUT,
        comparisons=tuple(comparisons),
        tables=(
            Table(
                title="CPU time of a call by process, ms",
                columns=(
                    "task",
                    "service, JPEG",
                    "beyond decoding",
                    "service, pixels",
                    "Triton, for it",
                    "Triton, raw",
                ),
                rows=tuple(rows),
                note=f"To decode one of these frames takes {decoding:.1f} ms of CPU time.",
            ),
        ),
        plots=(
            bars("triton", "By raw Triton", comparisons, [f"{c.case}: {c.first}, {c.quantity}" for c in comparisons]),
        ),
        values=values,
        spreads=spreads,
    )


def _decoding_ms(frames: Frames) -> float:
    """CPU time to decode a frame, on average, in ms."""
    times = [cpu_time(lambda path=path: decoded(path))["cpu"] for path in frames.paths]  # type: ignore[misc]
    return sum(times) / len(times)


def _measure_task(run: Run, running: System, frames: Frames, task: str, model: Model) -> Samples:
    pictures = [decoded(path) for path in frames.paths]
    tensors = [model_input(picture, model) for picture in pictures]
    calls = run.pick(len(frames.paths), len(frames.paths) // 2)
    address = f"127.0.0.1:{running.ports.task(task)}"
    with (
        grpc.insecure_channel(address, channel_options(_LARGEST_MESSAGE)) as channel,
        InferenceServerClient(running.triton) as triton,
    ):
        encoded = [image_pb2.Image(encoded=path.read_bytes()) for path in frames.paths]
        pixels = [_raw_image(tensor[0] if model.max_batch_size else tensor) for tensor in tensors]
        ways = {
            _JPEG: [_service_call(channel, task, image) for image in encoded],
            _PIXELS: [_service_call(channel, task, image) for image in pixels],
            _RAW: [_raw_call(triton, model, tensor) for tensor in tensors],
        }
        arms = {name: _arm(running, task, cycle(way), calls) for name, way in ways.items()}
        return run.interleave(f"{task}: service and raw Triton", arms, run.pick(9, 3))


def _arm(running: System, task: str, calls: Iterator[Call], count: int) -> Callable[[], Measured]:
    """Some calls one after another: the median of their times, and the CPU time of one by process, in ms."""

    def run_calls() -> Measured:
        meter, own, times = Meter(running), time.process_time(), []
        for _ in range(count):
            started = time.perf_counter()
            next(calls)()
            times.append((time.perf_counter() - started) * 1e3)
        used, _ = meter.read()
        service, triton = used[task] / count, (used[SERVER] + used[MODELS]) / count
        caller = (time.process_time() - own) * 1e3 / count
        return {"latency": median(times), "service": service, "triton": triton, "cpu": service + triton + caller}

    return run_calls


def _service_call(channel: grpc.Channel, task: str, image: image_pb2.Image) -> Call:
    """A call of a task's service, as the gateway makes it."""
    stub: Any
    match task:
        case "detection":
            stub = detection_pb2_grpc.DetectionServiceStub(channel)
            return lambda: stub.Detect(detection_pb2.DetectRequest(image=image))
        case "instance_segmentation":
            stub = instance_segmentation_pb2_grpc.InstanceSegmentationServiceStub(channel)
            form = geometry_pb2.MASK_FORMAT_BOX
            request = instance_segmentation_pb2.SegmentInstancesRequest(image=image, mask_format=form)
            return lambda: stub.SegmentInstances(request)
        case "semantic_segmentation":
            stub = semantic_segmentation_pb2_grpc.SemanticSegmentationServiceStub(channel)
            grid = geometry_pb2.RESOLUTION_MODEL
            of_map = semantic_segmentation_pb2.SegmentSemanticsRequest(
                image=image, resolution=grid, include_confidence=True
            )
            return lambda: stub.SegmentSemantics(of_map)
        case _:
            stub = classification_pb2_grpc.ClassificationServiceStub(channel)
            return lambda: stub.Classify(classification_pb2.ClassifyRequest(image=image))


def _raw_call(triton: InferenceServerClient, model: Model, tensor: Any) -> Call:
    def call() -> object:
        given = InferInput(model.inputs[0].name, tensor.shape, "UINT8")
        given.set_data_from_numpy(tensor)
        answer = triton.infer(model.name, [given])
        return [answer.as_numpy(output.name) for output in model.outputs]

    return call


def _raw_image(pixels: Any) -> image_pb2.Image:
    height, width, _ = pixels.shape
    raw = image_pb2.RawImage(format=image_pb2.PIXEL_FORMAT_RGB8, height=height, width=width, data=pixels.tobytes())
    return image_pb2.Image(raw=raw)


def _compare(task: str, samples: Samples) -> Sequence[Comparison]:
    return [
        Comparison.of(
            samples, arm, _RAW, key, id=f"{task}.{way}.{key}", case=task.replace("_", " "), quantity=quantity, unit="ms"
        )
        for arm, way in ((_PIXELS, "pixels"), (_JPEG, "jpeg"))
        for key, quantity in (("latency", "time of a call"), ("cpu", "CPU time of a call"))
    ]
