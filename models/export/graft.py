"""Grafts the model contract onto a network's ONNX graph: the image in, the task's answer out.

    image uint8 [N,H,W,3] -> pixels -> the network as it came -> head -> contract outputs

Nothing but the catalogue entry and the network's graph is needed, so a third party's ONNX file becomes a model of this
project without its training framework.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference, version_converter

from models.catalog.schema import ClassifierHead, Entry, Pixels, SemanticHead, YoloHead
from models.export.contract import check_contract
from models.export.dense_heads import classifier_head, semantic_head
from models.export.onnx_text import IR_VERSION, OPSET, graph_from_text, join, nested_graphs
from models.export.yolo_head import yolo_head


class GraftError(ValueError):
    """A network's graph is not what its catalogue entry says; names the entry, what was expected and what was found."""


def graft(network: onnx.ModelProto, entry: Entry) -> onnx.ModelProto:
    """Return `network` with the contract of `entry.task` around it.

    Args:
        network: takes one float32 picture tensor [N,3,H,W]; gives what `entry.head` decodes: raw YOLO predictions (and
            prototypes), semantic logits, or class scores. A batch axis fixed at 1 is made free.
        entry: input size, pixels, labels and head.

    Raises:
        GraftError: the network's inputs or outputs are something else.
    """
    width, height = entry.image.width, entry.image.height
    try:
        network = _prepared(network, height, width)
        head, connections = _head(entry, network)
    except ValueError as error:
        raise GraftError(f"{entry.name}: {error}") from error
    model = join(_pixels(entry.pixels, height, width), network, {"pixels": network.graph.input[0].name})
    model.graph.name = "network_with_pixels"
    model = join(model, head, connections)
    return finish(model, entry)


def finish(model: onnx.ModelProto, entry: Entry) -> onnx.ModelProto:
    """Return `model` as the finished graph of `entry`, without what no output needs and what exporters wrote on it.

    Raises:
        models.export.contract.ContractError: it does not keep to the contract of the entry's task.
    """
    model.graph.name = entry.name
    _remove_unused(model.graph)
    del model.graph.value_info[:]
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items())
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"catalog_entry": entry.name, "licence": entry.licence})
    model.producer_name = "perception"
    model.ir_version = IR_VERSION
    check_contract(model, entry.task)
    return model


def _pixels(pixels: Pixels, height: int, width: int) -> onnx.ModelProto:
    """Return the graph `image -> pixels`, which is `(value * scale - mean) / std` in planes of the channel order."""
    factor = pixels.scale / np.array(pixels.std, np.float64)
    offset = -np.array(pixels.mean, np.float64) / np.array(pixels.std, np.float64)
    # Channels are turned and transposed while a value is one byte.
    turn = "ordered = Identity(planes)"
    if pixels.channel_order == "bgr":
        turn = "reversed = Constant<value_ints = [2, 1, 0]>() ordered = Gather<axis = 1>(planes, reversed)"
    nodes = f"""
        planes = Transpose<perm = [0, 3, 1, 2]>(image)
        {turn}
        values = Cast<to = {TensorProto.FLOAT}>(ordered)
        factor = Constant<value = float[1, 3, 1, 1] {_floats(factor)}>()
        offset = Constant<value = float[1, 3, 1, 1] {_floats(offset)}>()
        scaled = Mul(values, factor)
        {"pixels = Add(scaled, offset)" if offset.any() else "pixels = Identity(scaled)"}
    """
    return graph_from_text(
        "pixels", f"uint8[batch,{height},{width},3] image", f"float[batch,3,{height},{width}] pixels", nodes
    )


def _prepared(network: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """Return the network with a free batch axis, the input size of the entry, known shapes and this project's opset."""
    prepared = onnx.ModelProto()
    prepared.CopyFrom(network)
    prepared.graph.name = "network"
    _set_input_shape(prepared, height, width)
    opset = next(opset.version for opset in prepared.opset_import if opset.domain in ("", "ai.onnx"))
    if opset > OPSET:
        raise ValueError(f"expected opset {OPSET} or older, found {opset}: export the network again with opset {OPSET}")
    if opset < OPSET:
        prepared = version_converter.convert_version(prepared, OPSET)
    prepared.ir_version = IR_VERSION
    used = {node.domain for node in prepared.graph.node}
    kept = [opset for opset in prepared.opset_import if opset.domain in ("", "ai.onnx") or opset.domain in used]
    del prepared.opset_import[:]
    prepared.opset_import.extend(kept)
    _free_batch_in_reshapes(prepared)
    return _with_shapes(prepared)


def _with_shapes(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with the shapes of its outputs inferred, and where that fails as its exporter said."""
    said = {output.name: list(output.type.tensor_type.shape.dim) for output in network.graph.output}
    # Inner shapes may be of the exporter's batch.
    del network.graph.value_info[:]
    for output in network.graph.output:
        output.type.tensor_type.ClearField("shape")
    network = shape_inference.infer_shapes(network, data_prop=True)
    for output in network.graph.output:
        shape = output.type.tensor_type.shape
        if len(shape.dim) == len(said[output.name]):
            for dim, other in zip(shape.dim[1:], said[output.name][1:], strict=True):
                if not dim.dim_value and other.dim_value:
                    dim.dim_value = other.dim_value
        elif not shape.dim:
            shape.dim.extend(said[output.name])
    return network


def _set_input_shape(network: onnx.ModelProto, height: int, width: int) -> None:
    initializers = {initializer.name for initializer in network.graph.initializer}
    pictures = [value for value in network.graph.input if value.name not in initializers]
    shape = list(pictures[0].type.tensor_type.shape.dim) if len(pictures) == 1 else []
    sizes = [dim.dim_value for dim in shape]
    fits = len(sizes) == 4 and all(
        found in (0, expected) for found, expected in zip(sizes[1:], (3, height, width), strict=True)
    )
    if not fits or pictures[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        found = ", ".join(onnx.helper.printable_value_info(value) for value in pictures)
        raise ValueError(f"expected one float picture [N,3,{height},{width}], found {found}")
    shape[0].dim_param = "batch"
    for dim, size in zip(shape[1:], (3, height, width), strict=True):
        dim.dim_value = size


def _free_batch_in_reshapes(network: onnx.ModelProto) -> None:
    """Let reshapes of activations to a constant shape that begins with 1 keep the batch; exporters fix it at 1."""
    graph = network.graph
    constants = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = np.asarray(_constant(node.attribute[0]))
    from_picture = {value.name for value in graph.input}
    freed: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        if from_picture.isdisjoint(node.input):
            continue
        from_picture.update(node.output)
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = constants[node.input[1]]
            if shape.size > 1 and shape[0] == 1:
                name = f"{node.input[1]}_of_batch"
                # 0 copies the size of that axis.
                freed[name] = numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), name)
                node.input[1] = name
    graph.initializer.extend(freed.values())


def _constant(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _head(entry: Entry, network: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Return the head and which output of the network feeds which of its inputs."""
    shapes = {output.name: _fixed_shape(output) for output in network.graph.output}
    size = (entry.image.width, entry.image.height)
    num_classes = len(entry.labels)
    if isinstance(entry.head, YoloHead):
        # Prototypes are maps and so have one axis more than the raw predictions.
        names = sorted(shapes, key=lambda name: len(shapes[name]))
        if [len(shapes[name]) for name in names] != ([2, 3] if entry.head.mask_size else [2]):
            wanted = "raw predictions and prototypes [P,h,w]" if entry.head.mask_size else "raw predictions"
            raise ValueError(f"expected the outputs {wanted}, found {shapes}")
        channels, anchors = shapes[names[0]]
        prototypes = shapes[names[1]] if entry.head.mask_size else ()
        head = yolo_head(entry.head, num_classes, (channels, anchors), prototypes, size)
        return head, dict(zip(names, ("raw", "prototypes"), strict=False))
    # Training heads beside the answer are left out: the answer comes first.
    name, shape = next(iter(shapes.items()))
    if isinstance(entry.head, SemanticHead):
        return semantic_head(entry.head, num_classes, shape, size), {name: "logits"}
    if isinstance(entry.head, ClassifierHead):
        return classifier_head(entry.head, num_classes, shape), {name: "scores"}
    raise ValueError(f"expected a yolo, semantic or classifier head, found {entry.head}")


def _fixed_shape(output: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the shape without the batch axis."""
    sizes = tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim[1:])
    if not sizes or 0 in sizes:
        raise ValueError(
            f"output {output.name}: expected known sizes after the batch axis, found "
            f"{onnx.helper.printable_value_info(output)}"
        )
    return sizes


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove what no output needs: other outputs of the network, constants that conversion left behind."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed |= _names_used(node)
            kept.append(node)
    initializers = [initializer for initializer in graph.initializer if initializer.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(initializers)


def _names_used(node: onnx.NodeProto) -> set[str]:
    names = set(node.input)
    for graph in nested_graphs(node):
        # A branch may give a tensor from outside as it is.
        names.update(output.name for output in graph.output)
        for inner in graph.node:
            names |= _names_used(inner)
    return names


def _floats(values: np.ndarray) -> str:
    return "{" + ", ".join(f"{value:.12g}" for value in values) + "}"
