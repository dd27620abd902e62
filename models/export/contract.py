"""The tensors that a model of each task takes and gives, and the check that a graph keeps to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from models.catalog.schema import Task

IMAGE = "image"
_TRITON_TYPES: dict[int, str] = {
    TensorProto.UINT8: "TYPE_UINT8",
    TensorProto.INT32: "TYPE_INT32",
    TensorProto.FLOAT: "TYPE_FP32",
}


class ContractError(ValueError):
    """A graph does not keep to the contract of its task; says every difference."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph. dims hold the batch axis where the graph has one; -1 is any size."""

    name: str
    data_type: int
    dims: tuple[int, ...]

    @property
    def triton_type(self) -> str:
        """The data type as config.pbtxt writes it."""
        return _TRITON_TYPES[self.data_type]

    def __str__(self) -> str:
        return f"{self.name} {TensorProto.DataType.Name(self.data_type)} {list(self.dims)}"


_DETECTIONS = (
    ("num_detections", TensorProto.INT32, 1),
    ("detection_boxes", TensorProto.FLOAT, 2),
    ("detection_scores", TensorProto.FLOAT, 1),
    ("detection_classes", TensorProto.INT32, 1),
)
# Of each output: name, data type, rank without the batch axis.
OUTPUTS: dict[Task, tuple[tuple[str, int, int], ...]] = {
    "detection": _DETECTIONS,
    "instance_segmentation": (*_DETECTIONS, ("detection_masks", TensorProto.UINT8, 3)),
    "semantic_segmentation": (
        ("class_map", TensorProto.UINT8, 2),
        ("class_confidence", TensorProto.UINT8, 2),
    ),
    "classification": (("probabilities", TensorProto.FLOAT, 1),),
}
OPTIONAL_OUTPUTS = frozenset({"class_confidence"})


def graph_tensors(model: onnx.ModelProto) -> tuple[list[Tensor], list[Tensor]]:
    """Return the inputs (without initializers) and the outputs of a graph."""
    initializers = {initializer.name for initializer in model.graph.initializer}
    inputs = [_tensor(value) for value in model.graph.input if value.name not in initializers]
    return inputs, [_tensor(value) for value in model.graph.output]


def check_contract(model: onnx.ModelProto | str | Path, task: Task) -> None:
    """Check that a graph is valid ONNX and takes and gives what the contract says for its task.

    Raises:
        ContractError: names, data types, ranks or sizes differ, and the message says everything expected and found; or
            the file is none of a graph.
        onnx.checker.ValidationError: the graph is no valid ONNX.
    """
    if not isinstance(model, onnx.ModelProto):
        try:
            model = onnx.load(model)
        except DecodeError:
            raise ContractError(f"{model}: expected an ONNX file, found something else") from None
    onnx.checker.check_model(model, full_check=True)
    inputs, outputs = graph_tensors(model)
    batched = int(len(inputs) == 1 and len(inputs[0].dims) == 4)
    problems = (
        _image_problems(inputs, batched) + _output_problems(outputs, task, batched) + _size_problems(outputs, batched)
    )
    if problems:
        raise ContractError(f"{model.graph.name or 'graph'} as {task}: " + "; ".join(problems))


def set_dims(value: onnx.ValueInfoProto, dims: Sequence[int | str]) -> None:
    """Say what the sizes of an input or output are; a name stands for one that is not fixed."""
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for dim in dims:
        if isinstance(dim, str):
            shape.dim.add().dim_param = dim
        else:
            shape.dim.add().dim_value = dim


def _image_problems(inputs: Sequence[Tensor], batched: int) -> list[str]:
    expected = "expected one input image UINT8 [H,W,3] or [N,H,W,3]"
    found = ", ".join(str(tensor) for tensor in inputs) or "none"
    if len(inputs) != 1:
        return [f"{expected}, found {found}"]
    image = inputs[0]
    fits = (
        image.name == IMAGE
        and image.data_type == TensorProto.UINT8
        and len(image.dims) == 3 + batched
        and image.dims[-1] == 3
        and (not batched or image.dims[0] == -1)
    )
    return [] if fits else [f"{expected}, found {found}"]


def _output_problems(outputs: Sequence[Tensor], task: Task, batched: int) -> list[str]:
    found = {tensor.name: tensor for tensor in outputs}
    problems = []
    for name, data_type, rank in OUTPUTS[task]:
        expected = f"expected output {name} {TensorProto.DataType.Name(data_type)} of rank {rank + batched}"
        tensor = found.pop(name, None)
        if tensor is None:
            if name not in OPTIONAL_OUTPUTS:
                problems.append(f"{expected}, found none")
        elif tensor.data_type != data_type or len(tensor.dims) != rank + batched:
            problems.append(f"{expected}, found {tensor}")
    return problems + [f"expected no output {name}" for name in found]


def _size_problems(outputs: Sequence[Tensor], batched: int) -> list[str]:
    # Rows agree in K; masks are square. Nothing but the batch and a picture of any size may be unknown.
    sizes = {tensor.name: tensor.dims[batched:] for tensor in outputs}
    problems = []
    boxes = sizes.get("detection_boxes")
    if boxes is not None and boxes[-1:] != (4,):
        problems.append(f"expected detection_boxes [K,4], found {list(boxes)}")
    rows = {name: dims[0] for name, dims in sizes.items() if name.startswith("detection_") and dims}
    if len(set(rows.values())) > 1 or -1 in rows.values():
        problems.append(f"expected one fixed K for all detections, found {rows}")
    masks = sizes.get("detection_masks")
    if masks is not None and (len(masks) != 3 or masks[1] != masks[2]):
        problems.append(f"expected detection_masks [K,M,M], found {list(masks)}")
    return problems


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    tensor_type = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor_type.shape.dim)
    return Tensor(value.name, tensor_type.elem_type, dims)
