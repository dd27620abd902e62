from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from services.runtime.engines import Priority, triton
from services.runtime.engines.triton import TritonEngine
from services.runtime.errors import ContractViolation, EngineUnavailable, InferenceFailed
from tests.support.triton import free_ports


@settings(deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([np.uint8, np.int32, np.float32]),
            st.lists(st.integers(0, 40), min_size=1, max_size=3),
        ),
        max_size=3,
    ),
    st.text(max_size=20),
)
def test_a_request_is_what_protobuf_would_have_made(
    tensors: list[tuple[type[np.generic], list[int]]], request_id: str
) -> None:
    """Also where contents are longer than one, two and three digits of a varint, and where there are none."""
    arrays = {
        f"tensor_{index}": np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
        for index, (dtype, shape) in enumerate(tensors)
    }
    expected = service_pb2.ModelInferRequest(model_name="detection", id=request_id)
    expected.parameters["timeout"].int64_param = 1_500_000
    expected.parameters["priority"].uint64_param = 3
    names = {np.uint8: "UINT8", np.int32: "INT32", np.float32: "FP32"}
    for (name, array), (dtype, _) in zip(arrays.items(), tensors, strict=True):
        expected.inputs.add(name=name, datatype=names[dtype], shape=array.shape)
        expected.raw_input_contents.append(array.tobytes())
    message = triton._request("detection", arrays, 1.5, request_id, Priority.LOW)
    assert service_pb2.ModelInferRequest.FromString(message) == expected


def test_transposed_and_sliced_arrays_are_written_in_order() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    request = service_pb2.ModelInferRequest.FromString(triton._request("m", {"a": array}, 1.0, "", Priority.NORMAL))
    assert request.raw_input_contents[0] == array.tobytes()


def response(datatype: str, shape: list[int], contents: list[bytes]) -> service_pb2.ModelInferResponse:
    answer = service_pb2.ModelInferResponse(raw_output_contents=contents)
    answer.outputs.add(name="scores", datatype=datatype, shape=shape)
    return answer


def test_an_answer_is_read_without_a_copy() -> None:
    contents = np.arange(6, dtype=np.float32).tobytes()
    scores = triton._outputs("m", response("FP32", [2, 3], [contents]))["scores"]
    assert scores.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not scores.flags.owndata
    assert triton._outputs("m", response("FP32", [0, 3], [b""]))["scores"].shape == (0, 3)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (response("FP32", [2, 3], [b"123"]), ContractViolation, r"expected FP32 \[2, 3\], found 3 bytes"),
        (response("BYTES", [1], [b"123"]), ContractViolation, "BYTES"),
        (response("FP32", [2, 3], []), InferenceFailed, "0 raw contents for 1 outputs"),
    ],
)
def test_an_answer_that_is_not_what_it_says_is_refused(
    answer: service_pb2.ModelInferResponse, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        triton._outputs("m", answer)


async def test_without_a_server() -> None:
    engine = TritonEngine(f"127.0.0.1:{free_ports(1)[0]}", "detection")
    with pytest.raises(EngineUnavailable, match="detection"):
        await engine.describe()
    with pytest.raises(EngineUnavailable, match="detection"):
        await engine.infer({"image": np.zeros((1, 4, 4, 3), np.uint8)}, 1.0)
    assert not await engine.ready()
    await engine.close()
    await engine.close()
