"""What it takes to bring a picture to Triton: as a JPEG, as uint8 or FP32 at the model's size, or by shared memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import psutil
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, shared_memory

from loadtest.bench.floor import decoded
from loadtest.bench.frames import frames_for
from loadtest.bench.pairs import Measured, cpu_time
from loadtest.bench.result import Comparison, Findings, Table, bars
from loadtest.bench.run import Run
from loadtest.bench.system import cpu_ms
from services.runtime.engines import ResizeRule
from services.runtime.resize import fit
from services.stack.layout import triton_environment, triton_process
from services.stack.supervisor import START_SECONDS, StackError, Supervisor, interruptible
from services.stack.triton import TritonPorts, triton_runs_here

SIDE = 640
_TYPES = {"UINT8": TensorProto.UINT8, "FP32": TensorProto.FLOAT}
_UINT8 = "uint8, gRPC"

ABOUT = f"""\
One call at a time to Triton, of a model that answers with its input's shape and does nothing else: what is measured is
the way there and back. The picture is one 1080p frame: its **JPEG** bytes as a camera sends them; the model's input of
{SIDE} x {SIDE} as **uint8**, which is what our models take; the same as **FP32**, which is what most models take. Each
crosses the loopback interface by **gRPC**; the tensors also go through Triton's **system shared memory**, into which
the caller copies them for every call. CPU time is that of the caller and of Triton together."""

Infer = Callable[[], object]


@dataclass(frozen=True)
class _Server:
    """A Triton that does nothing with what it gets."""

    client: InferenceServerClient
    pid: int

    def cpu(self) -> float:
        """CPU time of its processes so far, in ms."""
        processes = [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]
        return sum(cpu_ms(pid) for pid in processes)


def measure(run: Run) -> Findings:
    """Measures every way."""
    usable, reason = triton_runs_here(triton_environment())
    if not usable:
        raise StackError(f"Triton does not run here: {reason}")
    with ExitStack() as stack:
        frames = stack.enter_context(frames_for("demo"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        jpeg = np.frombuffer(frames.paths[0].read_bytes(), np.uint8)
        picture = decoded(frames.paths[0])
        pixels, _ = fit(picture, ResizeRule("stretch"), (SIDE, SIDE))
        tensors: dict[str, NDArray[Any]] = {"JPEG": jpeg, "uint8": pixels, "FP32": pixels.astype(np.float32)}
        with run.progress("starting Triton", 1) as advance:
            server = stack.enter_context(_serving(run.port_base, folder, tensors))
            advance()
        ways = {f"{name}, gRPC": _by_grpc(server, name, tensor) for name, tensor in tensors.items()}
        for name in ("uint8", "FP32"):
            ways[f"{name}, shared memory"] = stack.enter_context(_by_shared_memory(server, name, tensors[name]))
        calls = run.pick(100, 40)
        samples = run.interleave(
            "ways over the wire", {name: _arm(server, infer, calls) for name, infer in ways.items()}, run.pick(11, 5)
        )
        decoding = cpu_time(lambda: fit(decoded(frames.paths[0]), ResizeRule("stretch"), (SIDE, SIDE)))["cpu"]
    comparisons = [
        Comparison.of(
            samples,
            name,
            _UINT8,
            key,
            id=f"{_identifier(name)}.{key}",
            case="one picture",
            quantity=quantity,
            unit="ms",
        )
        for name in ways
        if name != _UINT8
        for key, quantity in (("latency", "time of a call"), ("cpu", "CPU time of a call"))
    ]
    sizes = [(name, f"{tensor.nbytes / 1024:,.0f}") for name, tensor in tensors.items()]
    return Findings(
        about=ABOUT,
        comparisons=tuple(comparisons),
        tables=(
            Table(
                title="What crosses the wire, KiB",
                columns=("as", "size"),
                rows=tuple(sizes),
                note=f"A JPEG is to be decoded and resized where it arrives: {decoding:.1f} ms of CPU time.",
            ),
        ),
        plots=(bars("wire", "By uint8 over gRPC", comparisons, [f"{c.first}: {c.quantity}" for c in comparisons]),),
    )


def _identifier(way: str) -> str:
    return way.lower().replace(", ", ".").replace(" ", "_")


def _arm(server: _Server, infer: Infer, calls: int) -> Callable[[], Measured]:
    """Some calls one after another: the median of their times, and the CPU time of one, in ms."""

    def run_calls() -> Measured:
        before, own, times = server.cpu(), time.process_time(), []
        for _ in range(calls):
            started = time.perf_counter()
            infer()
            times.append((time.perf_counter() - started) * 1e3)
        used = server.cpu() - before + (time.process_time() - own) * 1e3
        return {"latency": median(times), "cpu": used / calls}

    return run_calls


def _by_grpc(server: _Server, name: str, tensor: NDArray[Any]) -> Infer:
    def infer() -> object:
        given = _input(tensor)
        given.set_data_from_numpy(tensor)
        return server.client.infer(name, [given]).as_numpy("shape")

    return infer


@contextmanager
def _by_shared_memory(server: _Server, name: str, tensor: NDArray[Any]) -> Iterator[Infer]:
    region = f"bench_{name}"
    handle = shared_memory.create_shared_memory_region(region, f"/{region}_{server.pid}", tensor.nbytes)
    try:
        server.client.register_system_shared_memory(region, f"/{region}_{server.pid}", tensor.nbytes)

        def infer() -> object:
            shared_memory.set_shared_memory_region(handle, [tensor])
            given = _input(tensor)
            given.set_shared_memory(region, tensor.nbytes)
            return server.client.infer(name, [given]).as_numpy("shape")

        yield infer
        server.client.unregister_system_shared_memory(region)
    finally:
        shared_memory.destroy_shared_memory_region(handle)


def _input(tensor: NDArray[Any]) -> InferInput:
    return InferInput("tensor", tensor.shape, _datatype(tensor))


def _datatype(tensor: NDArray[Any]) -> str:
    return "UINT8" if tensor.dtype == np.uint8 else "FP32"


@contextmanager
def _serving(port_base: int, folder: Path, tensors: dict[str, NDArray[Any]]) -> Iterator[_Server]:
    """A Triton with one model for each tensor, by the tensor's name."""
    repository = folder / "models"
    for name, tensor in tensors.items():
        _write_model(repository / name, name, tensor)
    ports = TritonPorts(port_base, port_base + 1, port_base + 2)
    with (
        interruptible(),
        Supervisor([triton_process(repository, list(tensors), ports, folder)], folder) as supervisor,
        InferenceServerClient(f"127.0.0.1:{ports.grpc}") as client,
    ):
        supervisor.start()
        end = time.monotonic() + START_SECONDS
        while not _ready(client):
            supervisor.check()
            if time.monotonic() > end:
                raise StackError(f"Triton is not ready after {START_SECONDS:.0f} s")
            time.sleep(0.1)
        yield _Server(client, supervisor.process("triton").pid)


def _ready(client: InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready())
    except InferenceServerException:
        return False


def _write_model(folder: Path, name: str, tensor: NDArray[Any]) -> None:
    """A model that takes a tensor of that shape and type and answers with its shape."""
    (folder / "1").mkdir(parents=True)
    datatype = _datatype(tensor)
    graph = helper.make_graph(
        [helper.make_node("Shape", ["tensor"], ["shape"])],
        name,
        [helper.make_tensor_value_info("tensor", _TYPES[datatype], tensor.shape)],
        [helper.make_tensor_value_info("shape", TensorProto.INT64, [tensor.ndim])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "1" / "model.onnx")
    dims = ", ".join(map(str, tensor.shape))
    (folder / "config.pbtxt").write_text(
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: 0\n'
        f'input {{ name: "tensor" data_type: TYPE_{datatype} dims: [ {dims} ] }}\n'
        f'output {{ name: "shape" data_type: TYPE_INT64 dims: [ {tensor.ndim} ] }}\n'
    )
