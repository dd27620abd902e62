from __future__ import annotations

import json
import struct

import numpy as np
from perception.codecs import decode_panoptic_png, encode_rle
from perception.v1 import camera_pb2, perception_pb2

from services.viewer.messages import camera, frame_notice, scene_message


def unpack(message: bytes) -> tuple[dict, bytes, bytes]:
    lengths = struct.unpack_from("<3I", message)
    assert len(message) == 12 + sum(lengths)
    ends = 12 + np.cumsum(lengths)
    return json.loads(message[12 : ends[0]]), message[ends[0] : ends[1]], message[ends[1] :]


def test_a_scene_carries_what_the_page_draws_and_the_gateway_s_own_map(street):
    frame = street[0]
    response = camera_pb2.WatchCameraResponse(picture=frame.picture)
    response.status.name = "street"
    response.status.state = camera_pb2.CAMERA_STATE_STREAMING
    response.capture_time.FromMilliseconds(1_700_000_000_123)
    response.answer.epoch = 3
    response.answer.age_microseconds = 81_500
    response.answer.degradation = perception_pb2.DEGRADATION_NO_ATTRIBUTES
    response.answer.scene.CopyFrom(frame.scene)
    header, picture, panoptic = unpack(scene_message(response, 9))
    assert picture == frame.picture
    assert panoptic == frame.scene.panoptic.png
    assert (header["number"], header["epoch"], header["age"]) == (9, 3, 81.5)
    assert header["capture_time"] == 1_700_000_000_123
    assert header["degradation"] == "no_attributes"
    assert header["status"]["state"] == "streaming"
    assert header["image_size"] == {"width": 320, "height": 240}
    assert [segment["id"] for segment in header["segments"]] == [s.id for s in frame.scene.panoptic.segments]
    thing = next(segment for segment in header["segments"] if segment["is_thing"])
    assert set(thing["track"]) == {"id", "frames", "age", "velocity"}
    assert {"task": "gateway", "stage": "fuse", "milliseconds": 4.0} in header["timings"]


def test_a_map_of_run_lengths_becomes_the_same_png(street):
    answer = street[0].scene
    ids = decode_panoptic_png(answer.panoptic.png, 240, 320)
    response = camera_pb2.WatchCameraResponse()
    response.answer.scene.CopyFrom(answer)
    response.answer.scene.panoptic.png = b""
    for segment in response.answer.scene.panoptic.segments:
        segment.rle.counts = encode_rle(ids == segment.id)
    _, _, panoptic = unpack(scene_message(response, 1))
    np.testing.assert_array_equal(decode_panoptic_png(panoptic, 240, 320), ids)


def test_a_broken_map_is_left_out_and_the_rest_is_shown(street):
    response = camera_pb2.WatchCameraResponse()
    response.answer.scene.CopyFrom(street[0].scene)
    response.answer.scene.panoptic.png = b""
    header, _, panoptic = unpack(scene_message(response, 1))
    assert panoptic == b""
    assert header["segments"]


def test_a_state_of_a_newer_agent_is_its_number():
    assert camera(camera_pb2.CameraStatus(state=77))["state"] == "77"


def test_only_an_error_is_worth_a_notice():
    answer = perception_pb2.PerceiveStreamResponse()
    answer.dropped.message = "a newer frame arrived"
    assert frame_notice(answer) == ""
    answer.error.code, answer.error.message = "UNAVAILABLE", "no task answered"
    assert frame_notice(answer) == "UNAVAILABLE: no task answered"
