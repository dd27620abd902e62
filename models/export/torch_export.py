"""From a torch module to an ONNX graph."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from models.catalog.schema import Entry
from models.export.contract import set_dims
from models.export.graft import graft
from models.export.onnx_text import OPSET


def export_graph(
    module: nn.Module,
    example: Tensor,
    input_name: str,
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    """Return the graph of a module of one tensor, traced with `example`.

    The TorchScript exporter is the one that takes two-stage detectors, whose shapes depend on what they see.

    Args:
        dynamic_axes: of inputs and outputs by name: axis -> name of its size.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # It says that it is the old one, and at every shape that becomes a constant, which `dynamic_axes` decides.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            buffer,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes=dynamic_axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def graft_network(network: nn.Module, entry: Entry, output_names: Sequence[str]) -> onnx.ModelProto:
    """Return the contract graph around a network of float pictures [N,3,H,W], with a free batch axis.

    Args:
        network: gives a tensor, or a tuple of them, as `models.export.graft.graft` takes from a network.
        output_names: one for each of these; [N,...] all.
    """
    example = torch.zeros(2, 3, entry.image.height, entry.image.width)
    axes = {name: {0: "batch"} for name in ("pixels", *output_names)}
    graph = export_graph(network, example, "pixels", output_names, axes)
    with torch.no_grad():
        answer = network(example)
    answers = (answer,) if isinstance(answer, Tensor) else answer
    for output, tensor in zip(graph.graph.output, answers, strict=True):
        # With a free batch axis the exporter loses track of sizes that follow from it, such as that of a -1.
        set_dims(output, ["batch", *tensor.shape[1:]])
    return graft(graph, entry)
