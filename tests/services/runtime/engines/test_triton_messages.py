"""Requests to Triton and its answers, as bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from services.runtime.engines import Priority
from services.runtime.engines.triton_messages import infer_request, outputs_of
from services.runtime.engines.triton_shared_inputs import Place
from services.runtime.errors import ContractViolation, InferenceFailed


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
    message = infer_request("detection", arrays, {}, 1.5, request_id, Priority.LOW)
    assert service_pb2.ModelInferRequest.FromString(message) == expected


def test_transposed_and_sliced_arrays_are_written_in_order() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    message = infer_request("m", {"a": array}, {}, 1.0, "", Priority.NORMAL)
    request = service_pb2.ModelInferRequest.FromString(message)
    assert request.raw_input_contents[0] == array.tobytes()


def test_of_a_shared_tensor_the_place_is_sent() -> None:
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.ones(5, np.uint8)}
    message = infer_request("m", arrays, {"a": Place("region", 4096, lambda: None)}, 1.0, "", Priority.NORMAL)
    request = service_pb2.ModelInferRequest.FromString(message)
    shared, sent = request.inputs
    assert (shared.name, shared.datatype, list(shared.shape)) == ("a", "FP32", [2, 3])
    assert shared.parameters["shared_memory_region"].string_param == "region"
    assert shared.parameters["shared_memory_offset"].int64_param == 4096
    assert shared.parameters["shared_memory_byte_size"].int64_param == 24
    assert not sent.parameters
    assert list(request.raw_input_contents) == [bytes([1] * 5)]


def response(datatype: str, shape: list[int], contents: list[bytes]) -> service_pb2.ModelInferResponse:
    answer = service_pb2.ModelInferResponse(raw_output_contents=contents)
    answer.outputs.add(name="scores", datatype=datatype, shape=shape)
    return answer


def test_an_answer_is_read_without_a_copy() -> None:
    contents = np.arange(6, dtype=np.float32).tobytes()
    scores = outputs_of("m", response("FP32", [2, 3], [contents]))["scores"]
    assert scores.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not scores.flags.owndata
    assert outputs_of("m", response("FP32", [0, 3], [b""]))["scores"].shape == (0, 3)


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
        outputs_of("m", answer)
