"""The floor under a system: its models on the same frames in one process; see `workers/models_alone.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray
from perception import PerceptionClient, convert
from perception.v1 import image_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

from loadtest.bench.system import System
from loadtest.bench.worker import Worker
from loadtest.sources import Frames
from services.classification.preprocess import to_tensor
from services.gateway.attributes import regions_to_classify
from services.gateway.taxonomy import Taxonomy
from services.runtime.engines import Model
from services.runtime.images import ImageLimits, Picture, decode
from services.runtime.model_contract import model_from_config
from services.runtime.resize import fit
from services.stack.layout import TASKS, tasks_in, triton_environment

_OPENVINO_PROPERTIES = ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT")
_LIMITS = ImageLimits(2**27, 2**27)


def models_of(repository: Path) -> dict[str, tuple[Model, ModelConfig]]:
    """The models of a repository by task, as its configurations describe them."""
    found = {}
    for task in tasks_in(repository):
        config = text_format.Parse((repository / task / "config.pbtxt").read_text(), ModelConfig())
        found[task] = (model_from_config(config, "1"), config)
    return found


def decoded(path: Path) -> Picture:
    """A frame's pixels, as the services decode them."""
    return decode(image_pb2.Image(encoded=path.read_bytes()), _LIMITS)


def model_input(picture: Picture, model: Model) -> NDArray[np.uint8]:
    """A picture as a model's input tensor, with a batch axis where the model has one."""
    tensor, _ = fit(picture, model.resize, model.input_size)
    return tensor[None] if model.max_batch_size else tensor


def write_inputs(
    system: System, frames: Frames, path: Path, on_frame: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Asks the running system for every frame, and writes the input tensors of every model that it ran for it.

    So the floor classifies the same regions. `on_frame` hears of every frame that is done. Returns how many calls each
    model has for a frame, on average.
    """
    models = models_of(system.repository)
    arrays: dict[str, Any] = {}
    with PerceptionClient(system.gateway) as client:
        taxonomy = Taxonomy.load(client.describe().taxonomy)
        for number, frame in enumerate(frames.paths):
            picture = decoded(frame)
            scene = client.perceive(frame)
            for task, (model, _) in models.items():
                if task != "classification":
                    arrays[f"{task}.{number}.0"] = model_input(picture, model)
            regions = regions_to_classify(scene.panoptic, taxonomy) if "classification" in models else ()
            if regions:
                boxes = [convert.box_to_message(region.box) for region in regions]
                for call, tensor in enumerate(_batches(to_tensor(picture, boxes, models["classification"][0]), models)):
                    arrays[f"classification.{number}.{call}"] = tensor
            on_frame()
    np.savez(path, **arrays)
    return {task: sum(key.startswith(task) for key in arrays) / len(frames.paths) for task in models}


def _batches(tensor: Picture, models: Mapping[str, tuple[Model, Any]]) -> Iterator[Picture]:
    """Regions as the classification service gives them to the model."""
    most = models["classification"][0].max_batch_size
    if not most:
        yield from tensor
        return
    for at in range(0, len(tensor), most):
        yield tensor[at : at + most]


@contextmanager
def floor(repository: Path, inputs: Path, log: Path, runtime: str = "") -> Iterator[Worker]:
    """The models of a repository in a process of Triton's environment, loaded, warm and waiting.

    runtime: "onnxruntime", "openvino f32" or "openvino bf16"; where none is named, what each model's configuration asks
    for. Raises `WorkerError` where it cannot load them.
    """
    models = models_of(repository)
    load = {task: _to_load(repository / task, models[task][1], runtime) for task in TASKS if task in models}
    with Worker(triton_environment(), "models_alone", log) as worker:
        worker.ask({"load": load, "inputs": str(inputs)})
        yield worker


def _to_load(folder: Path, config: ModelConfig, runtime: str) -> dict[str, Any]:
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    name, _, precision = (runtime or config.backend).partition(" ")
    if name == "openvino":
        asked = {name: parameters[name] for name in _OPENVINO_PROPERTIES if name in parameters}
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision} if precision else asked
    else:
        options = {"intra_op_num_threads": int(parameters.get("intra_op_thread_count", 0))}
    return {
        "path": str(folder / "1" / (config.default_model_filename or "model.onnx")),
        "runtime": name,
        "options": options,
        "instances": max(1, sum(group.count or 1 for group in config.instance_group)),
    }
