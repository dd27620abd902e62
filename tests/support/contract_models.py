"""Small models that keep the model contract, and whose right answer a test can work out from the picture.

A picture is dark with one bright rectangle of one colour (`picture`):
- detection and instance segmentation find one object: its box is tight around the pixels above 127 in any channel, its
  class the channel with the largest sum inside (`red`, `green`, `blue`), its score the brightest value / 255, its mask
  full; a dark picture holds none
- semantic segmentation says `bright` where a channel is above 127 and `dark` elsewhere, with confidence
  |2 x brightest - 255|
- classification is the softmax of each channel's mean / 16
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

TASKS = ("detection", "instance_segmentation", "semantic_segmentation", "classification")
LABELS: dict[str, tuple[str, ...]] = {
    "detection": ("red", "green", "blue"),
    "instance_segmentation": ("red", "green", "blue"),
    "semantic_segmentation": ("dark", "bright"),
    "classification": ("red", "green", "blue"),
}
MAX_DETECTIONS = 4
MASK_SIZE = 7
_THROTTLED = Path(__file__).with_name("throttled_detection.py")

_DETECTION_OUTPUTS = {
    "num_detections": ("INT32", (1,)),
    "detection_boxes": ("FP32", (MAX_DETECTIONS, 4)),
    "detection_scores": ("FP32", (MAX_DETECTIONS,)),
    "detection_classes": ("INT32", (MAX_DETECTIONS,)),
}
_MAPS = {"class_map": ("UINT8", ("H", "W")), "class_confidence": ("UINT8", ("H", "W"))}
_OUTPUTS: dict[str, dict[str, tuple[str, tuple[int | str, ...]]]] = {
    "detection": _DETECTION_OUTPUTS,
    "instance_segmentation": {
        **_DETECTION_OUTPUTS,
        "detection_masks": ("UINT8", (MAX_DETECTIONS, MASK_SIZE, MASK_SIZE)),
    },
    "semantic_segmentation": _MAPS,
    "classification": {"probabilities": ("FP32", (3,))},
}
_ONNX_TYPES = {"UINT8": "uint8", "INT32": "int32", "FP32": "float"}

_CONSTANTS = f"""
    int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] last = {{-1}},
    int64[2] plane = {{1, 2}},
    float half = {{127.0}}, float full = {{255.0}}, float sixteen = {{16.0}},
    int64[4] empty_rows = {{0, 0, 0, {MAX_DETECTIONS - 1}}},
    int64[6] empty_boxes = {{0, 0, 0, 0, {MAX_DETECTIONS - 1}, 0}},
    int64[4] mask_shape = {{1, 1, {MASK_SIZE}, {MASK_SIZE}}},
    int64[8] empty_masks = {{0, 0, 0, 0, 0, {MAX_DETECTIONS - 1}, 0, 0}},
    int64[2] two_and_three = {{2, 3}}, int64[2] square = {{512, 512}}, float nothing = {{0.0}}
"""
# ONNX's own text form. `pixels` is the picture with a batch axis, uint8 [N,H,W,3]; `x_n` is output x with one.
_BRIGHTNESS = """
    strongest_channel = ReduceMax <keepdims = 0> (pixels, last)
    brightest = Cast <to = 1> (strongest_channel)
    is_bright = Greater (brightest, half)
"""
_DETECTION = f"""{_BRIGHTNESS}
    bright = Cast <to = 1> (is_bright)
    columns = ReduceMax <keepdims = 0> (bright, one)
    rows = ReduceMax <keepdims = 0> (bright, two)
    left = ArgMax <axis = 1> (columns)
    top = ArgMax <axis = 1> (rows)
    last_column = ArgMax <axis = 1, select_last_index = 1> (columns)
    last_row = ArgMax <axis = 1, select_last_index = 1> (rows)
    right = Add (last_column, one)
    bottom = Add (last_row, one)
    corners = Concat <axis = 1> (left, top, right, bottom)
    found = ReduceMax (columns, one)
    num_detections_n = Cast <to = 6> (found)
    corner_values = Cast <to = 1> (corners)
    box = Mul (corner_values, found)
    boxes = Unsqueeze (box, one)
    detection_boxes_n = Pad (boxes, empty_boxes)
    peak = ReduceMax <keepdims = 0> (brightest, plane)
    peaks = Unsqueeze (peak, one)
    peak_scores = Div (peaks, full)
    scores = Mul (peak_scores, found)
    padded_scores = Pad (scores, empty_rows)
    detection_scores_n = Add (padded_scores, burden)
    values = Cast <to = 1> (pixels)
    weight = Unsqueeze (bright, last)
    bright_values = Mul (values, weight)
    channel_sums = ReduceSum <keepdims = 0> (bright_values, plane)
    strongest = ArgMax <axis = 1> (channel_sums)
    class = Cast <to = 6> (strongest)
    detection_classes_n = Pad (class, empty_rows)
"""
_GRAPHS = {
    "detection": _DETECTION,
    "instance_segmentation": f"""{_DETECTION}
    found_mask = Unsqueeze (found, two_and_three)
    opaque = Mul (found_mask, full)
    mask = Tile (opaque, mask_shape)
    masks = Pad (mask, empty_masks)
    detection_masks_n = Cast <to = 2> (masks)
""",
    "semantic_segmentation": f"""{_BRIGHTNESS}
    class_map_n = Cast <to = 2> (is_bright)
    doubled = Add (brightest, brightest)
    centred = Sub (doubled, full)
    distance = Abs (centred)
    class_confidence_n = Cast <to = 2> (distance)
""",
    "classification": """
    values = Cast <to = 1> (pixels)
    means = ReduceMean <keepdims = 0> (values, plane)
    logits = Div (means, sixteen)
    probabilities_n = Softmax <axis = -1> (logits)
""",
}


def model(
    task: str, height: int | str = 48, width: int | str = 64, *, batch: bool = True, burden: int = 0, limit: int = 255
) -> onnx.ModelProto:
    """The graph of a task.

    height, width: of the input; a name such as "H" leaves the size open. batch: whether tensors have a batch axis.
    burden: matrix products of 512 x 512 to compute besides, some 5 ms each (detection and instance segmentation).
    limit: pictures with a value above it make the model fail while it runs (likewise).
    """
    axis = ("N",) if batch else ()
    outputs = {name: (datatype, (*axis, *shape)) for name, (datatype, shape) in tensors(task, height, width).items()}
    declared = ", ".join(f"{_ONNX_TYPES[kind]}[{_join(shape)}] {name}" for name, (kind, shape) in outputs.items())
    graph = "pixels = Identity (image)" if batch else "pixels = Unsqueeze (image, zero)"
    graph += _burden(burden, limit) if "detection" in _GRAPHS[task] else ""
    graph += _GRAPHS[task]
    for name in outputs:
        graph += f"    {name} = Identity ({name}_n)\n" if batch else f"    {name} = Squeeze ({name}_n, zero)\n"
    found = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        {task} (uint8[{_join((*axis, height, width, 3))}] image) => ({declared}) <{_CONSTANTS}> {{ {graph} }}"""
    )
    used = {name for node in found.graph.node for name in node.input}
    constants = [constant for constant in found.graph.initializer if constant.name in used]
    del found.graph.initializer[:]
    found.graph.initializer.extend(constants)
    onnx.checker.check_model(found, full_check=True)
    return found


def _burden(steps: int, limit: int) -> str:
    """Nodes that compute `burden`, a zero, the long way."""
    table = ", ".join("0.0" for _ in range(limit + 1))
    products = "".join(f"    product_{step + 1} = MatMul (product_{step}, product_0)\n" for step in range(steps))
    return f"""
    all_values = Cast <to = 7> (pixels)
    greatest = ReduceMax <keepdims = 0> (all_values)
    table = Constant <value = float[{limit + 1}] {{{table}}}> ()
    looked_up = Gather (table, greatest)
    product_0 = Expand (looked_up, square)
{products}
    total = ReduceSum <keepdims = 0> (product_{steps})
    burden = Mul (total, nothing)
"""


def _join(shape: Sequence[int | str]) -> str:
    return ",".join(map(str, shape))


def tensors(task: str, height: int | str, width: int | str) -> dict[str, tuple[str, tuple[int | str, ...]]]:
    """The outputs of a task by name: Triton's datatype, and the shape without the batch axis."""
    sizes = {"H": height, "W": width}
    return {
        name: (datatype, tuple(sizes.get(size, size) if isinstance(size, str) else size for size in shape))
        for name, (datatype, shape) in _OUTPUTS[task].items()
    }


def configuration(
    task: str,
    height: int | str = 48,
    width: int | str = 64,
    *,
    batch: bool = True,
    name: str | None = None,
    parameters: dict[str, str] | None = None,
) -> str:
    """The config.pbtxt of `model(task, height, width, batch=batch)`."""
    values = {
        "task": task,
        "labels": json.dumps(LABELS[task]),
        "resize": "stretch" if task in ("semantic_segmentation", "classification") else "letterbox",
        "catalog_entry": f"contract_{task}",
        "weights_sha256": hashlib.sha256(task.encode()).hexdigest(),
        "intra_op_thread_count": "1",
    }
    if task == "instance_segmentation":
        values["mask_kind"] = "box"
    if isinstance(height, str):
        values |= {"resize": "shortest_edge", "shortest_edge": "48", "longest_edge": "96"}
    values |= parameters or {}

    def tensor(name: str, datatype: str, shape: Sequence[int | str]) -> str:
        dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in shape)
        return f"{{ name: {json.dumps(name)} data_type: TYPE_{datatype} dims: [ {dims} ] }}"

    outputs = tensors(task, height, width)
    batching = f"""max_batch_size: {8 if batch else 0}
dynamic_batching {{
  {"max_queue_delay_microseconds: 500" if batch else ""}
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy {{
    timeout_action: REJECT default_timeout_microseconds: 60000000 allow_timeout_override: true max_queue_size: 64
  }}
}}"""
    written = "\n".join(
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in values.items()
    )
    return f"""name: {json.dumps(name or task)}
backend: "onnxruntime"
default_model_filename: "model.onnx"
{batching}
input [ {tensor("image", "UINT8", (height, width, 3))} ]
output [ {", ".join(tensor(key, *value) for key, value in outputs.items())} ]
instance_group [ {{ count: 1 }} ]
version_policy {{ latest {{ num_versions: 1 }} }}
{written}
"""


def write_model(
    repository: Path,
    task: str,
    height: int | str = 48,
    width: int | str = 64,
    *,
    batch: bool = True,
    name: str | None = None,
    version: int = 1,
    burden: int = 0,
    limit: int = 255,
    parameters: dict[str, str] | None = None,
) -> Path:
    """Writes one model with its configuration into a model repository. Returns the model's folder."""
    folder = repository / (name or task)
    (folder / str(version)).mkdir(parents=True, exist_ok=True)
    text = configuration(task, height, width, batch=batch, name=name, parameters=parameters)
    (folder / "config.pbtxt").write_text(text)
    onnx.save(model(task, height, width, batch=batch, burden=burden, limit=limit), folder / str(version) / "model.onnx")
    return folder


def write_throttled_model(repository: Path, seconds: float, name: str = "detection") -> None:
    """Writes a detection model for Triton that sleeps so many seconds over every picture, and takes one at a time."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    text = configuration("detection", batch=False, name=name, parameters={"seconds": str(seconds)})
    text = text.replace('"onnxruntime"', '"python"').replace('"model.onnx"', '"model.py"')
    (version.parent / "config.pbtxt").write_text(text)
    shutil.copy(_THROTTLED, version / "model.py")


def write_repository(path: Path) -> Path:
    """Writes a model repository with one model per task, named after it. Returns `path`."""
    for task in TASKS:
        write_model(path, task)
    return path


def picture(
    height: int = 48,
    width: int = 64,
    box: tuple[int, int, int, int] = (10, 8, 40, 30),
    colour: tuple[int, int, int] = (30, 200, 60),
) -> NDArray[np.uint8]:
    """A dark picture [height, width, 3], RGB, whose rectangle x1, y1, x2, y2 has one colour."""
    pixels = np.full((height, width, 3), 16, np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = colour
    return pixels
