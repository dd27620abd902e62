"""The text of a model's config.pbtxt, which tells Triton and our services everything about it."""

from __future__ import annotations

import json

import onnx

from models.catalog.schema import Backend, Entry
from models.export.contract import IMAGE, Tensor, graph_tensors

QUEUE_DELAY_MICROSECONDS = 500
MAX_QUEUE_SIZE = 64
# Requests that expire while they wait are refused and not computed. Triton looks at a request's own timeout only where
# the default is not zero, so the default is long.
DEFAULT_TIMEOUT_MICROSECONDS = 60_000_000
# 1 high, 2 normal, 3 low, as services.runtime.engines.Priority numbers them. Every level has a queue of its own.
PRIORITY_LEVELS = 3
DEFAULT_PRIORITY_LEVEL = 2


def config_text(entry: Entry, model: onnx.ModelProto, backend: Backend, digests: dict[str, str]) -> str:
    """Return the configuration of `model`, which `entry` describes, in protobuf's text format.

    digests: parameters to be added as they are.
    """
    inputs, outputs = graph_tensors(model)
    batched = len(inputs[0].dims) == 4
    max_batch_size = _max_batch_size(entry, backend) if batched else 0
    blocks = [
        "# Written by `perception models build`: change the catalogue entry instead.",
        f'name: "{entry.task}"',
        f'backend: "{backend}"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {max_batch_size}",
        *(_tensor_block("input", tensor, batched) for tensor in inputs),
        *(_tensor_block("output", tensor, batched) for tensor in outputs),
        "version_policy { latest { num_versions: 1 } }",
        # Triton's own openvino backend runs on the CPU alone, and refuses an instance on a GPU.
        "instance_group { count: 1 kind: KIND_CPU }" if backend == "openvino" else "instance_group { count: 1 }",
    ]
    blocks += [_queue_block(max_batch_size), _warmup_block(entry, batched)]
    blocks += [
        f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}"
        for key, value in (_parameters(entry) | _backend_parameters(backend, max_batch_size) | digests).items()
    ]
    return "\n".join(blocks) + "\n"


def _queue_block(max_batch_size: int) -> str:
    """Triton's dynamic batcher, which is also the only one of its schedulers whose queue has a bound and deadlines.

    A model without a batch axis has it, too: without it, every request that a caller has given up long ago would be
    computed, and those that wait would fill the memory.
    """
    delay = f"  max_queue_delay_microseconds: {QUEUE_DELAY_MICROSECONDS}\n" if max_batch_size > 1 else ""
    return f"""dynamic_batching {{
{delay}  priority_levels: {PRIORITY_LEVELS}
  default_priority_level: {DEFAULT_PRIORITY_LEVEL}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {DEFAULT_TIMEOUT_MICROSECONDS}
    allow_timeout_override: true
    max_queue_size: {MAX_QUEUE_SIZE}
  }}
}}"""


def _max_batch_size(entry: Entry, backend: Backend) -> int:
    # Triton's own openvino backend computes each batch at its full size, whatever part of it is asked for, and a batch
    # costs as much as its pictures one by one. Only the crops of one frame come together.
    if backend == "openvino" and entry.task != "classification":
        return min(1, entry.max_batch_size)
    return entry.max_batch_size


def _backend_parameters(backend: Backend, max_batch_size: int) -> dict[str, str]:
    # Without it Triton's own openvino backend refuses a batch that is not full.
    return {"ENABLE_BATCH_PADDING": "YES"} if backend == "openvino" and max_batch_size > 1 else {}


def _parameters(entry: Entry) -> dict[str, str]:
    image = entry.image
    parameters = {
        "task": entry.task,
        "labels": json.dumps(list(entry.labels)),
        "resize": image.resize,
        "catalog_entry": entry.name,
        "source": entry.source.url or entry.source.file,
        "licence": entry.licence,
    }
    if image.resize == "letterbox":
        parameters["pad_value"] = str(image.pad_value)
    if image.resize == "shortest_edge":
        parameters["shortest_edge"] = str(image.shortest_edge)
        parameters["longest_edge"] = str(image.longest_edge)
    if entry.task == "instance_segmentation":
        parameters["mask_kind"] = "box"
    return parameters


def _tensor_block(kind: str, tensor: Tensor, batched: bool) -> str:
    dims = ", ".join(str(size) for size in tensor.dims[int(batched) :])
    return f'{kind} {{ name: "{tensor.name}" data_type: {tensor.triton_type} dims: [ {dims} ] }}'


def _warmup_block(entry: Entry, batched: bool) -> str:
    # A picture of any size is warmed up at the largest square that the resize rule makes.
    height = entry.image.height or entry.image.shortest_edge
    width = entry.image.width or entry.image.shortest_edge
    picture = f"data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] random_data: true"
    batch_size = "batch_size: 1 " if batched else ""
    return f'model_warmup {{ name: "picture" {batch_size}inputs {{ key: "{IMAGE}" value: {{ {picture} }} }} }}'


def _quoted(text: str) -> str:
    # JSON's escapes of quotes and backslashes are protobuf's, too.
    return json.dumps(text, ensure_ascii=False)
