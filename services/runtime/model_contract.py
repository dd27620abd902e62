"""The model contract: what a model's configuration in the repository must say, and how it is read.

| task                  | outputs                                                                           |
|-----------------------|-----------------------------------------------------------------------------------|
| detection             | num_detections INT32 [1], detection_boxes FP32 [K,4], detection_scores FP32 [K],  |
|                       | detection_classes INT32 [K]                                                       |
| instance_segmentation | the same and detection_masks UINT8 [K,M,M]                                        |
| semantic_segmentation | class_map UINT8 [h,w], optionally class_confidence UINT8 [h,w]; h and w divide    |
|                       | the input's size                                                                  |
| classification        | probabilities FP32 [C], C being the number of labels                              |

Every task takes `image` UINT8 [H,W,3], RGB. Shapes are without the batch axis, which all tensors have when
`max_batch_size` is above 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from services.runtime.engines.base import Model, ResizeKind, ResizeRule, Task, TensorSpec
from services.runtime.errors import ContractViolation

MAX_SEMANTIC_LABELS = 255
"""Class ids of a class map are UINT8 and 255 stays free for void."""


@dataclass(frozen=True)
class _TensorRule:
    """One tensor of the contract. A size is a number, or a name that stands for the same number wherever it recurs."""

    name: str
    datatype: str
    shape: tuple[int | str, ...]
    required: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {_written(self.shape)}"


_IMAGE = _TensorRule("image", "UINT8", ("H", "W", 3))
_DETECTION = (
    _TensorRule("num_detections", "INT32", (1,)),
    _TensorRule("detection_boxes", "FP32", ("K", 4)),
    _TensorRule("detection_scores", "FP32", ("K",)),
    _TensorRule("detection_classes", "INT32", ("K",)),
)
_OUTPUTS: dict[Task, tuple[_TensorRule, ...]] = {
    "detection": _DETECTION,
    "instance_segmentation": (*_DETECTION, _TensorRule("detection_masks", "UINT8", ("K", "M", "M"))),
    "semantic_segmentation": (
        _TensorRule("class_map", "UINT8", ("h", "w")),
        _TensorRule("class_confidence", "UINT8", ("h", "w"), required=False),
    ),
    "classification": (_TensorRule("probabilities", "FP32", ("C",)),),
}


def model_from_config(config: ModelConfig, version: str) -> Model:
    """What a service needs to know of a model.

    config: Triton's configuration of the model, as its repository or a running server gives it. version: the version
    that is loaded. Raises `ContractViolation` that lists everything in which the configuration breaks the contract.
    """
    return _Reader(config).model(version)


class _Reader:
    """Reads one configuration and collects what is wrong with it."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._parameters = {name: value.string_value for name, value in config.parameters.items()}
        self._problems: list[str] = []

    def model(self, version: str) -> Model:
        task = self._task()
        inputs = tuple(_specs(self._config.input))
        outputs = tuple(_specs(self._config.output))
        labels = self._labels()
        resize = self._resize()
        sizes = self._sizes("input", inputs, (_IMAGE,))
        self._check_input_size(resize, sizes)
        if task is not None:
            sizes |= self._sizes("output", outputs, _OUTPUTS[task])
            self._check_task(task, labels, sizes)
        weights_sha256 = self._parameters.get("weights_sha256", "")
        if weights_sha256 and not re.fullmatch("[0-9a-f]{64}", weights_sha256):
            self._problem("parameter 'weights_sha256'", "64 hexadecimal digits", repr(weights_sha256))
        if self._problems or task is None:
            raise ContractViolation(self._config.name, "; ".join(self._problems))
        return Model(
            name=self._config.name,
            version=version,
            task=task,
            labels=labels,
            resize=resize,
            max_batch_size=self._config.max_batch_size,
            inputs=inputs,
            outputs=outputs,
            catalog_entry=self._parameters.get("catalog_entry", ""),
            weights_sha256=weights_sha256,
        )

    def _problem(self, where: str, expected: str, found: str) -> None:
        self._problems.append(f"{where}: expected {expected}, found {found}")

    def _task(self) -> Task | None:
        task = self._parameters.get("task")
        if task not in _OUTPUTS:
            self._problem("parameter 'task'", f"one of {', '.join(_OUTPUTS)}", _quoted(task))
            return None
        return cast(Task, task)

    def _labels(self) -> tuple[str, ...]:
        text = self._parameters.get("labels")
        expected = "a JSON list of non-empty strings"
        try:
            labels = json.loads(text or "null")
        except json.JSONDecodeError as error:
            self._problem("parameter 'labels'", expected, f"text that is no JSON ({error})")
            return ()
        if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
            self._problem("parameter 'labels'", expected, _quoted(text))
            return ()
        return tuple(labels)

    def _resize(self) -> ResizeRule:
        kind = self._parameters.get("resize")
        if kind not in get_args(ResizeKind):
            self._problem("parameter 'resize'", f"one of {', '.join(get_args(ResizeKind))}", _quoted(kind))
            return ResizeRule("stretch")
        rule = ResizeRule(
            kind=cast(ResizeKind, kind),
            pad_value=self._whole_number("pad_value", 0, 255, default=114),
            shortest_edge=self._whole_number("shortest_edge", 1) if kind == "shortest_edge" else 0,
            longest_edge=self._whole_number("longest_edge", 1) if kind == "shortest_edge" else 0,
        )
        if rule.longest_edge < rule.shortest_edge:
            expected = f"at least shortest_edge, {rule.shortest_edge}"
            self._problem("parameter 'longest_edge'", expected, str(rule.longest_edge))
        return rule

    def _whole_number(self, name: str, least: int, most: int | None = None, default: int | None = None) -> int:
        text = self._parameters.get(name)
        if text is None and default is not None:
            return default
        if text is None or not text.isascii() or not text.isdigit() or not least <= int(text) <= (most or int(text)):
            limits = f"of {least} or more" if most is None else f"from {least} to {most}"
            self._problem(f"parameter '{name}'", f"a whole number {limits}", _quoted(text))
            return least
        return int(text)

    def _sizes(self, kind: str, tensors: Iterable[TensorSpec], rules: Iterable[_TensorRule]) -> dict[str, int]:
        """Checks the tensors by the rules. Returns the named sizes, -1 where the configuration leaves one open."""
        found = {tensor.name: tensor for tensor in tensors}
        sizes: dict[str, int] = {}
        for rule in rules:
            tensor = found.pop(rule.name, None)
            if tensor is None:
                if rule.required:
                    self._problem(f"{kind} '{rule.name}'", str(rule), "no such tensor")
            elif tensor.datatype != rule.datatype or not _fits(tensor.shape, rule.shape, sizes):
                known = f" with {', '.join(f'{name}={size}' for name, size in sizes.items())}" if sizes else ""
                written = f"{tensor.name} {tensor.datatype} {_written(tensor.shape)}"
                self._problem(f"{kind} '{rule.name}'", f"{rule}{known}", written)
        for name in found:
            self._problem(f"{kind} '{name}'", f"only {', '.join(rule.name for rule in rules)}", "a further tensor")
        return sizes

    def _check_input_size(self, resize: ResizeRule, sizes: Mapping[str, int]) -> None:
        open_sizes = [name for name in ("H", "W") if sizes.get(name) == -1]
        if resize.kind == "shortest_edge" and sizes and len(open_sizes) < 2:
            self._problem("input 'image'", "dims [-1,-1,3] with resize 'shortest_edge'", str(dict(sizes)))
        if resize.kind != "shortest_edge" and open_sizes:
            found = f"{' and '.join(open_sizes)} open"
            self._problem("input 'image'", f"a fixed size with resize '{resize.kind}'", found)

    def _check_task(self, task: Task, labels: tuple[str, ...], sizes: Mapping[str, int]) -> None:
        if task == "semantic_segmentation":
            if len(labels) > MAX_SEMANTIC_LABELS:
                self._problem("parameter 'labels'", f"at most {MAX_SEMANTIC_LABELS} labels", str(len(labels)))
            for size, of in (("h", "H"), ("w", "W")):
                found, whole = sizes.get(size, -1), sizes.get(of, -1)
                if -1 not in (found, whole) and (found == 0 or whole % found):
                    self._problem("output 'class_map'", f"{size} to divide the input's {of}={whole}", str(found))
        if task == "classification" and labels and sizes.get("C", -1) not in (-1, len(labels)):
            self._problem("parameter 'labels'", f"{sizes['C']} labels, one per probability", str(len(labels)))
        if task == "instance_segmentation" and self._parameters.get("mask_kind") != "box":
            self._problem("parameter 'mask_kind'", "'box'", _quoted(self._parameters.get("mask_kind")))


def _specs(tensors: Iterable[Any]) -> Iterable[TensorSpec]:
    for tensor in tensors:
        datatype = DataType.Name(tensor.data_type).removeprefix("TYPE_")
        yield TensorSpec(tensor.name, datatype, tuple(tensor.dims))


def _fits(shape: tuple[int, ...], rule: tuple[int | str, ...], sizes: dict[str, int]) -> bool:
    """Whether a shape follows a rule, and enters what it fixes into `sizes`. -1 fits every size."""
    if len(shape) != len(rule):
        return False
    for size, wanted in zip(shape, rule, strict=True):
        expected = sizes.get(wanted, -1) if isinstance(wanted, str) else wanted
        if -1 not in (size, expected) and size != expected:
            return False
        if isinstance(wanted, str):
            sizes[wanted] = max(size, expected)
    return True


def _written(shape: Iterable[int | str]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _quoted(text: str | None) -> str:
    if text is None:
        return "none"
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
