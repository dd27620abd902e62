"""Parts of graphs written in ONNX's textual syntax, and joining them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
from onnx import compose, parser

OPSET = 20
IR_VERSION = 9
"""Both are understood by ONNX Runtime since 1.17, and so by Triton's images since 24.03."""


def graph_from_text(name: str, inputs: str, outputs: str, nodes: str) -> onnx.ModelProto:
    """Return the model `name (inputs) => (outputs) { nodes }`.

    Raises:
        onnx.parser.ParseError: the text is not ONNX's syntax.
    """
    header = f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>'
    return parser.parse_model(f"{header} {name} ({inputs}) => ({outputs}) {{ {nodes} }}")


def join(first: onnx.ModelProto, second: onnx.ModelProto, connections: dict[str, str]) -> onnx.ModelProto:
    """Return `first` followed by `second`.

    connections: output of `first` -> input of `second`. Inner names get a prefix, so that the parts cannot collide;
    outputs of `first` that nothing takes are left out.
    """
    first, second = (_with_inner_names(part, f"{part.graph.name}/") for part in (first, second))
    return compose.merge_models(
        first, second, io_map=list(connections.items()), outputs=[value.name for value in second.graph.output]
    )


def nested_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Return the graphs within a node, such as the branches of an If."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _with_inner_names(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """Prefix everything but inputs and outputs."""
    kept = {"", *(value.name for value in (*model.graph.input, *model.graph.output))}
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    _rename(renamed.graph, lambda name: name if name in kept else prefix + name)
    return renamed


def _rename(graph: onnx.GraphProto, new: Callable[[str], str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = new(value.name)
    for initializer in graph.initializer:
        initializer.name = new(initializer.name)
    for node in graph.node:
        node.name = new(node.name)
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for nested in nested_graphs(node):
            _rename(nested, new)
