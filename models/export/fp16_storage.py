"""Stores weights as fp16 with a Cast to fp32 behind: half the file, the arithmetic unchanged."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
SMALLEST = 256
"""Elements below which a Cast costs more than it saves."""


def store_weights_as_fp16(model: onnx.ModelProto) -> None:
    """Round the weights of convolutions and matrix products to fp16, in place; all others (biases, grids) stay fp32.

    Engines fold the Cast when they load the model, so speed is the same. Weights that fp16 cannot hold stay fp32.
    """
    graph = model.graph
    weighted = {name for node in graph.node if node.op_type in WEIGHTED for name in node.input[:2]}
    casts = []
    for initializer in graph.initializer:
        if initializer.name not in weighted or initializer.data_type != TensorProto.FLOAT:
            continue
        weights = numpy_helper.to_array(initializer)
        if weights.size < SMALLEST or np.abs(weights).max() > np.finfo(np.float16).max:
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}_fp16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_fp16"], [name], f"{name}_cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
