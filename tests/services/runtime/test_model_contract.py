from __future__ import annotations

import json

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from services.runtime.engines.base import ResizeRule, TensorSpec
from services.runtime.errors import ContractViolation
from services.runtime.model_contract import model_from_config
from tests.support.contract_models import LABELS, TASKS, configuration


def config(task: str, **options: object) -> ModelConfig:
    return text_format.Parse(configuration(task, **options), ModelConfig())  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_a_configuration_that_keeps_the_contract(task: str, batch: bool) -> None:
    model = model_from_config(config(task, batch=batch), "7")
    assert (model.name, model.version, model.task, model.labels) == (task, "7", task, LABELS[task])
    assert model.max_batch_size == (8 if batch else 0)
    assert model.inputs == (TensorSpec("image", "UINT8", (48, 64, 3)),)
    assert model.catalog_entry == f"contract_{task}"
    assert len(model.weights_sha256) == 64


@pytest.mark.parametrize(
    ("task", "height", "parameters", "expected"),
    [
        ("detection", 48, {}, ResizeRule("letterbox", pad_value=114)),
        ("detection", 48, {"pad_value": "0"}, ResizeRule("letterbox", pad_value=0)),
        ("classification", 48, {}, ResizeRule("stretch")),
        ("detection", "H", {}, ResizeRule("shortest_edge", shortest_edge=48, longest_edge=96)),
    ],
)
def test_resize_rules(task: str, height: int | str, parameters: dict[str, str], expected: ResizeRule) -> None:
    width = "W" if height == "H" else 64
    assert model_from_config(config(task, height=height, width=width, parameters=parameters), "1").resize == expected


def test_sizes_may_stay_open_where_the_graph_leaves_them_open() -> None:
    found = config("instance_segmentation")
    for tensor in found.output:
        tensor.dims[:] = [-1] * len(tensor.dims)
    assert model_from_config(found, "1").outputs[1].shape == (-1, -1)


def test_a_class_map_may_be_a_whole_fraction_of_the_input() -> None:
    found = config("semantic_segmentation")
    for tensor in found.output:
        tensor.dims[:] = [12, 16]
    assert model_from_config(found, "1").outputs[0].shape == (12, 16)


def test_class_confidence_may_be_left_out() -> None:
    found = config("semantic_segmentation")
    del found.output[1]
    assert [tensor.name for tensor in model_from_config(found, "1").outputs] == ["class_map"]


# What is changed, and what the error must say was expected and found.
VIOLATIONS = {
    "no task": ("detection", {"task": None}, "parameter 'task': expected one of detection, .*, found none"),
    "a task of another kind": ("detection", {"task": "pose"}, "parameter 'task': .*found 'pose'"),
    "another task's outputs": ("detection", {"task": "classification"}, "'probabilities': expected .*no such tensor"),
    "no labels": ("detection", {"labels": None}, "parameter 'labels': expected a JSON list .*found none"),
    "labels that are no JSON": ("detection", {"labels": "red,green"}, "parameter 'labels': .*no JSON"),
    "labels that are no list": ("detection", {"labels": '{"a": 1}'}, "parameter 'labels': expected a JSON list"),
    "labels that are no strings": ("detection", {"labels": "[1, 2]"}, "parameter 'labels': expected a JSON list"),
    "an empty list of labels": ("detection", {"labels": "[]"}, r"parameter 'labels': .*found '\[\]'"),
    "too many labels for UINT8": (
        "semantic_segmentation",
        {"labels": json.dumps([str(index) for index in range(256)])},
        "parameter 'labels': expected at most 255 labels, found 256",
    ),
    "fewer labels than classes": (
        "classification",
        {"labels": '["cat", "dog"]'},
        "parameter 'labels': expected 3 labels, one per probability, found 2",
    ),
    "no resize rule": ("detection", {"resize": None}, "parameter 'resize': expected one of letterbox, .*found none"),
    "an unknown resize rule": ("detection", {"resize": "crop"}, "parameter 'resize': .*found 'crop'"),
    "a pad value above 255": ("detection", {"pad_value": "300"}, "'pad_value': .*from 0 to 255, found '300'"),
    "a pad value that is no number": ("detection", {"pad_value": "grey"}, "'pad_value': .*found 'grey'"),
    "no shortest edge": ("detection", {"resize": "shortest_edge"}, "'shortest_edge': .*1 or more, found none"),
    "a longest edge below the shortest": (
        "detection",
        {"resize": "shortest_edge", "shortest_edge": "800", "longest_edge": "600"},
        "'longest_edge': expected at least shortest_edge, 800, found 600",
    ),
    "shortest edge with a fixed input": (
        "detection",
        {"resize": "shortest_edge", "shortest_edge": "48", "longest_edge": "96"},
        r"input 'image': expected dims \[-1,-1,3\]",
    ),
    "masks of another kind": ("instance_segmentation", {"mask_kind": "image"}, "'mask_kind': expected 'box'"),
    "a digest that is none": ("detection", {"weights_sha256": "abc"}, "'weights_sha256': expected 64 hexadecimal"),
}


@pytest.mark.parametrize(("task", "parameters", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_parameters_that_break_the_contract(task: str, parameters: dict[str, str | None], message: str) -> None:
    found = config(task)
    for name, value in parameters.items():
        if value is None:
            del found.parameters[name]
        else:
            found.parameters[name].string_value = value
    with pytest.raises(ContractViolation, match=message) as caught:
        model_from_config(found, "1")
    assert caught.value.model == task


TENSORS = {
    "a float picture": ("detection", "input", 0, "TYPE_FP32", [48, 64, 3], r"expected image UINT8 \[H,W,3\].*FP32"),
    "channels first": ("detection", "input", 0, "TYPE_UINT8", [3, 48, 64], r"found image UINT8 \[3,48,64\]"),
    "a batch axis in dims": ("detection", "input", 0, "TYPE_UINT8", [-1, 48, 64, 3], r"found .*\[-1,48,64,3\]"),
    "an open size with letterbox": ("detection", "input", 0, "TYPE_UINT8", [-1, 64, 3], "a fixed size .*found H open"),
    "int64 counts": ("detection", "output", 0, "TYPE_INT64", [1], "num_detections INT32"),
    "boxes of five numbers": ("detection", "output", 1, "TYPE_FP32", [4, 5], r"detection_boxes FP32 \[K,4\]"),
    "fewer scores than boxes": ("detection", "output", 2, "TYPE_FP32", [3], "detection_scores .* with K=4"),
    "masks that are not square": ("instance_segmentation", "output", 4, "TYPE_UINT8", [4, 7, 9], "detection_masks"),
    "a map that no integer scales": (
        "semantic_segmentation",
        "output",
        0,
        "TYPE_UINT8",
        [20, 64],
        "class_map.*h to divide the input's H=48, found 20",
    ),
    "a confidence of another size": ("semantic_segmentation", "output", 1, "TYPE_UINT8", [24, 32], "class_confidence"),
}


@pytest.mark.parametrize(("task", "kind", "index", "datatype", "dims", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_break_the_contract(
    task: str, kind: str, index: int, datatype: str, dims: list[int], message: str
) -> None:
    text = configuration(task)
    found = text_format.Parse(text, ModelConfig())
    tensor = getattr(found, kind)[index]
    tensor.data_type = type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[datatype].number
    tensor.dims[:] = dims
    with pytest.raises(ContractViolation, match=message):
        model_from_config(found, "1")


def test_a_missing_and_a_further_tensor() -> None:
    found = config("detection")
    found.output[3].name = "classes"
    with pytest.raises(ContractViolation) as caught:
        model_from_config(found, "1")
    assert "output 'detection_classes': expected detection_classes INT32 [K]" in str(caught.value)
    assert "output 'classes': expected only num_detections" in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = ModelConfig(name="empty")
    with pytest.raises(ContractViolation) as caught:
        model_from_config(found, "1")
    for part in ("'task'", "'labels'", "'resize'", "'image'"):
        assert part in str(caught.value)
