"""The whole system of real processes: Triton, four task services, the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest
from perception import AsyncPerceptionClient, InvalidArgument, PerceptionClient, ResourceExhausted, Unavailable, codecs
from perception.v1 import geometry_pb2, image_pb2, perception_pb2, perception_pb2_grpc, task_pb2

from tests.support.contract_models import picture
from tests.support.stack import TAXONOMY, Stack, eventually

pytestmark = pytest.mark.integration

BOX = (10, 8, 40, 30)
TASKS = ("detection", "instance_segmentation", "semantic_segmentation", "classification")


@pytest.fixture(scope="module")
def taxonomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("taxonomy") / "contract.yaml"
    path.write_text(TAXONOMY)
    return path


@pytest.fixture(scope="module")
def stack(
    triton_environment: Path, contract_repository: Path, taxonomy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with Stack(contract_repository, str(taxonomy), "triton", tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[PerceptionClient]:
    with PerceptionClient(stack.address) as connected:
        yield connected


@pytest.fixture
def stub(stack: Stack) -> Iterator[perception_pb2_grpc.PerceptionServiceStub]:
    with grpc.insecure_channel(stack.address) as channel:
        yield perception_pb2_grpc.PerceptionServiceStub(channel)


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _message(image: np.ndarray) -> image_pb2.Image:
    return image_pb2.Image(encoded=_png(image))


def test_a_frame_becomes_a_scene(client: PerceptionClient, tmp_path: Path) -> None:
    scene = client.perceive(picture(box=BOX), request_id="frame-1")
    assert scene.request_id == "frame-1"
    assert scene.image_size == (48, 64)
    thing, stuff = scene.panoptic.segments
    assert (thing.category, thing.is_thing, thing.box, thing.area) == ("green", True, BOX, 30 * 22)
    assert (stuff.category, stuff.is_thing, stuff.area) == ("dark", False, 48 * 64 - 30 * 22)
    assert [(found.name, found.value) for found in thing.attributes] == [("tint", "green")]
    expected = np.full((48, 64), stuff.id)
    expected[8:30, 10:40] = thing.id
    np.testing.assert_array_equal(scene.panoptic.ids, expected)
    assert scene.class_map is not None
    assert scene.class_map.labels == ("dark", "bright")
    np.testing.assert_array_equal(scene.class_map.ids == 1, expected == thing.id)
    assert scene.detections.labels == scene.instances.labels == ("green",)
    np.testing.assert_allclose(scene.detections.boxes, [BOX])
    np.testing.assert_array_equal(scene.instances.mask(0, 48, 64), expected == thing.id)
    assert {task: status.state for task, status in scene.task_status.items()} == dict.fromkeys(TASKS, "OK")
    assert {task: model.catalog_entry for task, model in scene.models.items()} == {t: f"contract_{t}" for t in TASKS}
    assert scene.models["detection"].version == "1"
    of_tasks = {"preprocess", "inference", "postprocess", "call", "total"}
    of_gateway = {"decode", "fuse", "encode", "total"}
    assert set(scene.timings) == of_gateway | {f"{task}.{stage}" for task in TASKS for stage in of_tasks}
    assert all(seconds > 0 for seconds in scene.timings.values())
    overlay = scene.draw(tmp_path / "overlay.png")
    assert overlay.shape == (48, 64, 3)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "overlay.png"))[..., ::-1], overlay)


def test_path_bytes_and_array_give_the_same_scene(client: PerceptionClient, tmp_path: Path) -> None:
    image = picture(box=BOX)
    (tmp_path / "frame.png").write_bytes(_png(image))
    scenes = [client.perceive(source) for source in (image, _png(image), tmp_path / "frame.png")]
    for scene in scenes[1:]:
        assert scene.panoptic.segments == scenes[0].panoptic.segments
        np.testing.assert_array_equal(scene.panoptic.ids, scenes[0].panoptic.ids)


async def test_the_asynchronous_client_gives_the_same(stack: Stack, client: PerceptionClient) -> None:
    image = picture(box=BOX)
    async with AsyncPerceptionClient(stack.address) as asynchronous:
        scenes = await asyncio.gather(*(asynchronous.perceive(image) for _ in range(8)))
        described = await asynchronous.describe()
    assert all(scene.panoptic.segments == client.perceive(image).panoptic.segments for scene in scenes)
    assert described == client.describe()


def test_the_system_describes_itself(client: PerceptionClient) -> None:
    system = client.describe()
    assert [task_pb2.Task.Name(task.task) for task in system.tasks] == [f"TASK_{task.upper()}" for task in TASKS]
    assert all(task.ready and not task.reason for task in system.tasks)
    detection = system.tasks[0].model
    assert list(detection.labels) == ["red", "green", "blue"]
    assert (detection.input_size.height, detection.input_size.width, detection.resize) == (48, 64, "letterbox")
    assert len(detection.weights_sha256) == 64
    assert system.taxonomy == "contract"
    categories = [(c.id, c.name, c.is_thing, c.color) for c in system.categories]
    assert categories[0] == (1, "red", True, 0xFF0000)
    assert [name for _, name, is_thing, _ in categories if not is_thing] == ["dark", "bright"]


# Asked-for tasks: what the scene can then hold.
ONLY = [
    (("detection",), {"green"}),  # no mask and no class map: an ellipse in the box
    (("instance_segmentation",), {"green"}),
    (("semantic_segmentation",), {"dark", "bright"}),  # the bright pixels are nobody's thing, so they stay stuff
    (("detection", "semantic_segmentation"), {"green", "dark", "bright"}),
]


@pytest.mark.parametrize(("tasks", "categories"), ONLY)
def test_only_the_tasks_asked_for_run(client: PerceptionClient, tasks: tuple[str, ...], categories: set[str]) -> None:
    scene = client.perceive(picture(box=BOX), tasks=tasks)
    assert {task for task, status in scene.task_status.items() if status.state == "OK"} == set(tasks)
    assert {status.reason for task, status in scene.task_status.items() if task not in tasks} == {"not asked for"}
    assert {segment.category for segment in scene.panoptic.segments} == categories


def test_a_score_threshold_leaves_objects_out(client: PerceptionClient) -> None:
    dim = picture(colour=(0, 150, 0))  # the model's score is the brightest value / 255, 0.59
    assert len(client.perceive(dim, score_threshold=0.5).detections) == 1
    scene = client.perceive(dim, score_threshold=0.6)
    assert len(scene.detections) == len(scene.instances) == 0
    assert not any(segment.is_thing for segment in scene.panoptic.segments)
    assert scene.task_status["classification"].state == "SKIPPED"


def test_maps_come_on_the_grid_that_was_asked_for(client: PerceptionClient) -> None:
    large = cv2.resize(picture(box=BOX), (640, 480), interpolation=cv2.INTER_NEAREST)
    at_model, at_frame = (client.perceive(large, resolution=grid) for grid in ("model", "frame"))
    assert at_model.panoptic.ids.shape == at_model.class_map.ids.shape == (48, 64)
    assert at_frame.panoptic.ids.shape == at_frame.class_map.ids.shape == (480, 640)
    for scene in (at_model, at_frame):
        thing = scene.panoptic.segments[0]
        np.testing.assert_allclose(thing.box, np.multiply(BOX, 10), atol=10)
        assert thing.area == np.count_nonzero(scene.panoptic.ids == thing.id)


def test_run_lengths_say_the_same_as_pngs(stub: perception_pb2_grpc.PerceptionServiceStub) -> None:
    request = perception_pb2.PerceiveRequest(image=_message(picture(box=BOX)))
    as_png = stub.Perceive(request)
    request.panoptic_format = perception_pb2.PANOPTIC_FORMAT_RLE
    request.mask_format = geometry_pb2.MASK_FORMAT_RLE
    as_rle = stub.Perceive(request)
    assert not as_rle.panoptic.png
    ids = codecs.decode_panoptic_png(as_png.panoptic.png, 48, 64)
    for segment in as_rle.panoptic.segments:
        np.testing.assert_array_equal(codecs.decode_rle(segment.rle.counts, 48, 64), ids == segment.id)
    thing = as_rle.panoptic.segments[0]
    instance = codecs.decode_rle(as_rle.instances[0].rle.counts, 48, 64)
    np.testing.assert_array_equal(instance, ids == thing.id)


def test_a_stream_answers_every_frame_in_order(stub: perception_pb2_grpc.PerceptionServiceStub) -> None:
    frames = [
        (1, _message(picture(box=BOX))),
        (2, image_pb2.Image(encoded=b"no picture")),  # answered with its error, and the stream goes on
        (3, _message(picture(box=(0, 0, 20, 20)))),
        (3, _message(picture(box=BOX))),  # a sequence number that does not grow
        (4, _message(picture(box=BOX))),
    ]
    requests = [
        perception_pb2.PerceiveStreamRequest(sequence=n, frame=perception_pb2.PerceiveRequest(image=image))
        for n, image in frames
    ]
    requests[0].options.camera = "gate"

    def in_their_time() -> Iterator[perception_pb2.PerceiveStreamRequest]:
        for request in requests:
            yield request
            time.sleep(0.7)

    answers = list(stub.PerceiveStream(in_their_time(), timeout=30))
    assert [answer.sequence for answer in answers] == [1, 2, 3, 3, 4]
    assert [answer.WhichOneof("result") for answer in answers] == ["scene", "error", "scene", "error", "scene"]
    assert answers[1].error.code == answers[3].error.code == "INVALID_ARGUMENT"
    assert "image.encoded" in answers[1].error.message
    assert "sequence" in answers[3].error.message


def test_bad_requests_name_the_field(stub: perception_pb2_grpc.PerceptionServiceStub, client: PerceptionClient) -> None:
    good = _message(picture())
    raw = image_pb2.RawImage(format=image_pb2.PIXEL_FORMAT_RGB8, height=4, width=4, data=b"\0" * 47)
    cases = [
        (perception_pb2.PerceiveRequest(), "image"),  # an empty request
        (perception_pb2.PerceiveRequest(image=image_pb2.Image(encoded=b"")), "image.encoded"),
        (perception_pb2.PerceiveRequest(image=image_pb2.Image(raw=raw)), "image.raw.data"),
        (perception_pb2.PerceiveRequest(image=good, tasks=[2, 77]), "tasks[1]"),  # a task nobody knows
        (perception_pb2.PerceiveRequest(image=good, score_threshold=1.5), "score_threshold"),
        (perception_pb2.PerceiveRequest(image=good, score_threshold=float("nan")), "score_threshold"),
        (perception_pb2.PerceiveRequest(image=good, resolution=9), "resolution"),
        (perception_pb2.PerceiveRequest(image=good, panoptic_format=9), "panoptic_format"),
        (perception_pb2.PerceiveRequest(image=good, mask_format=9), "mask_format"),
    ]
    for request, field in cases:
        with pytest.raises(grpc.RpcError) as raised:
            stub.Perceive(request, timeout=10)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, field
        assert raised.value.details().startswith(f"{field}: "), raised.value.details()
    assert client.perceive(picture()).panoptic.segments


def test_a_picture_that_only_decoding_shows_to_be_broken_is_the_callers_fault(client: PerceptionClient) -> None:
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))[1].tobytes()
    with pytest.raises(InvalidArgument) as raised:
        client.perceive(whole[: len(whole) // 2])
    assert raised.value.field == "image.encoded"
    assert raised.value.reason == "INVALID_INPUT"


def test_a_message_of_64_megabytes_is_refused(client: PerceptionClient) -> None:
    with pytest.raises(ResourceExhausted, match=r"request: a message of 6\d{7} bytes, the limit is 34603008") as raised:
        client.perceive(b"\xff\xd8" + bytes(63 * 2**20))
    assert (raised.value.reason, raised.value.setting) == ("LIMIT_EXCEEDED", "max_image_bytes")
    with pytest.raises(ResourceExhausted, match=r"image\.encoded: a file of 33554433 bytes, the limit is 33554432"):
        client.perceive(bytes(32 * 2**20 + 1))
    assert client.perceive(picture()).panoptic.segments


def test_nasty_pictures(client: PerceptionClient, perception_data: Path) -> None:
    answered: dict[str, str] = {}
    for path in sorted((perception_data / "nasty").iterdir()):
        try:
            scene = client.perceive(path, timeout=10)
            answered[path.name] = f"{scene.image_size[1]}x{scene.image_size[0]}"
        except (InvalidArgument, ResourceExhausted) as error:
            assert error.field == "image.encoded", path.name
            answered[path.name] = error.code.name
    refused = {name for name, answer in answered.items() if answer == "INVALID_ARGUMENT"}
    assert refused == {
        "animated.gif", "bad_crc.png", "html_named.jpg", "interlaced_like.gif", "jpeg_magic_only.jpg",
        "nan_tensor.npy", "photo.bmp", "photo.tiff", "random_bytes.jpg", "svg.svg", "truncated_half.jpg",
        "truncated_header.jpg", "zero_byte.jpg",
    }  # fmt: skip
    too_large = {name for name, answer in answered.items() if answer == "RESOURCE_EXHAUSTED"}
    assert too_large == {"bomb_30000x30000_1bit.png", "bomb_claims_65535x65535.png"}
    assert answered["exif_orientation_6.jpg"] == answered["ok_baseline.jpg"] == "480x320"
    assert answered["tiny_1x1.png"] == "1x1"


def test_a_killed_task_is_named_and_comes_back(stack: Stack, client: PerceptionClient) -> None:
    image = picture(box=BOX)
    stack.kill("instance_segmentation")
    scene = client.perceive(image)
    status = scene.task_status["instance_segmentation"]
    assert (status.state, status.code) == ("FAILED", "UNAVAILABLE")
    assert "instance_segmentation at 127.0.0.1" in status.reason
    # The detection has no mask any more; it becomes an instance all the same.
    assert {segment.category for segment in scene.panoptic.segments} >= {"green", "dark"}
    assert {t for t, s in scene.task_status.items() if s.state == "OK"} == set(TASKS) - {"instance_segmentation"}
    described = {task.task: task for task in client.describe().tasks}
    assert not described[task_pb2.TASK_INSTANCE_SEGMENTATION].ready
    assert described[task_pb2.TASK_INSTANCE_SEGMENTATION].reason

    stack.spawn("instance_segmentation")
    scene = eventually(lambda: client.perceive(image), lambda scene: scene.task_status["instance_segmentation"].ok)
    assert len(scene.instances) == 1


def test_triton_killed_and_restarted_needs_no_other_restart(stack: Stack, client: PerceptionClient) -> None:
    image = picture(box=BOX)
    before = {name: stack.supervisor.process(name).pid for name in (*TASKS, "gateway")}
    stack.kill("triton")
    with pytest.raises(Unavailable, match="no task answered") as raised:
        client.perceive(image, timeout=10)
    assert raised.value.retry_after_seconds
    stack.spawn("triton")

    scene = eventually(
        lambda: client.perceive(image, timeout=5), lambda scene: all(s.ok for s in scene.task_status.values())
    )
    assert scene.panoptic.segments
    assert {name: stack.supervisor.process(name).pid for name in before} == before
    stack.supervisor.check()


def test_two_stacks_side_by_side(
    stack: Stack, client: PerceptionClient, contract_repository: Path, taxonomy: Path, tmp_path: Path
) -> None:
    with (
        Stack(contract_repository, str(taxonomy), "onnxruntime", tmp_path) as second,
        PerceptionClient(second.address) as other,
    ):
        image = picture(box=BOX)
        mine, theirs = client.perceive(image), other.perceive(image)
        assert mine.panoptic.segments == theirs.panoptic.segments
        np.testing.assert_array_equal(mine.panoptic.ids, theirs.panoptic.ids)
