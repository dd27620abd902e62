"""Callers' pictures on their way to the tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from perception.convert import image_to_message
from perception.v1 import detection_pb2, image_pb2, perception_pb2, task_pb2

from services.gateway.perceiver import Perceiver
from services.gateway.pictures import Pictures
from services.gateway.settings import GatewaySettings
from services.gateway.tasks import TASKS, connect
from services.gateway.taxonomy import Taxonomy
from services.runtime import images
from services.runtime.errors import InvalidInput
from services.runtime.images import ImageLimits
from services.runtime.shared_pictures import SharedPictureReader
from services.runtime.timing import Deadline, StageClock
from tests.support.contract_models import picture
from tests.support.service import ServiceProcess
from tests.support.stack import TAXONOMY

LIMITS = ImageLimits(2**20, 10**6)
ASKED = ("detection", "semantic_segmentation")
BOX = (10, 8, 40, 30)


@pytest_asyncio.fixture
async def pictures(tmp_path: Path) -> AsyncIterator[Pictures]:
    with ThreadPoolExecutor(1) as executor:
        taking = Pictures(GatewaySettings(shared_pictures_directory=tmp_path, max_shared_pictures=2), executor)
        yield taking
        taking.close()


def clock() -> StageClock:
    return StageClock(task_pb2.TASK_UNSPECIFIED)


def files() -> list[image_pb2.Image]:
    rgb = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), (70, 50))
    made = [image_pb2.Image(encoded=cv2.imencode(suffix, rgb)[1].tobytes()) for suffix in (".jpg", ".png", ".webp")]
    made += [image_pb2.Image(encoded=cv2.imencode(".jpg", rgb[..., 0])[1].tobytes()), image_to_message(rgb)]
    rotated = bytearray(made[0].encoded)
    rotated[2:2] = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return [*made, image_pb2.Image(encoded=bytes(rotated))]


def shared(field: bytes) -> image_pb2.SharedPicture:
    return detection_pb2.DetectRequest.FromString(field).image.shared


async def test_what_is_shared_is_what_would_be_decoded(pictures: Pictures, tmp_path: Path) -> None:
    reader = SharedPictureReader(tmp_path)
    for image in files():
        async with pictures.taken(image, clock()) as taken:
            expected = images.decode(image, LIMITS)
            assert taken.size == expected.shape[:2]
            np.testing.assert_array_equal(reader.read(shared(taken.as_shared)), expected)
            assert detection_pb2.DetectRequest.FromString(taken.as_sent).image == image
    assert {images.decode(image, LIMITS).shape for image in files()} == {(50, 70, 3), (70, 50, 3)}


async def test_the_pictures_that_find_no_room_are_sent(pictures: Pictures) -> None:
    async with AsyncExitStack() as stack:
        taken = [await stack.enter_async_context(pictures.taken(image, clock())) for image in files()[:3]]
        assert [one.memory is not None for one in taken] == [True, True, False]
    async with pictures.taken(files()[0], clock()) as one:
        assert one.memory is not None


async def test_a_broken_picture_names_its_field_and_takes_no_room(pictures: Pictures) -> None:
    whole = files()[0].encoded
    for _ in range(5):
        with pytest.raises(InvalidInput, match=r"^image\.encoded: broken JPEG"):
            async with pictures.taken(image_pb2.Image(encoded=whole[: len(whole) // 2]), clock()):
                pass
    async with pictures.taken(files()[0], clock()) as taken:
        assert taken.memory is not None


async def test_memory_that_a_thread_still_writes_goes_to_nobody_else(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, go_on = Event(), Event()

    decode = images.Checked.decode

    def slow(checked: images.Checked, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
        decoding.set()
        go_on.wait(60)
        return decode(checked, out)

    async def take(image: image_pb2.Image) -> None:
        async with pictures.taken(image, clock()):
            pass

    monkeypatch.setattr(images.Checked, "decode", slow)
    given_up = asyncio.create_task(take(files()[0]))
    await asyncio.to_thread(decoding.wait, 60)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert pictures._memory is not None
    first, second = pictures._memory.take(2, 2), pictures._memory.take(2, 2)
    assert first is not None
    assert second is None, "the place of the picture that was given up is still written to"
    go_on.set()
    pictures._memory.give_back(first)
    monkeypatch.undo()
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(pictures.taken(files()[0], clock())) for _ in range(2)]
        assert all(one.memory for one in both)


@pytest_asyncio.fixture
async def perceiver(request: pytest.FixtureRequest, small_models: Path, tmp_path: Path) -> AsyncIterator[Perceiver]:
    """A gateway that shares pictures, with services that see them, or not."""
    taxonomy = tmp_path / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    directory = tmp_path / "shared"
    told = {"ENGINE": "onnxruntime", "MODEL_REPOSITORY": small_models}
    told |= {"SHARED_PICTURES_DIRECTORY": directory} if request.param else {}
    with ExitStack() as stack:
        services = {task: stack.enter_context(ServiceProcess(task, tmp_path, **told)) for task in ASKED}
        urls = {f"{task}_url": process.wait_until_ready().address for task, process in services.items()}
        settings = GatewaySettings(shared_pictures_directory=directory, **urls)
        tasks = connect(settings)
        running = Perceiver(settings, Taxonomy.load(str(taxonomy)), tasks)
        yield running
        running.close()
        for client in tasks.values():
            await client.close()


@pytest.mark.parametrize("perceiver", [True, False], indirect=True, ids=["seen", "not seen"])
async def test_the_scene_is_the_same_whether_tasks_see_the_memory(
    perceiver: Perceiver, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    asked = perception_pb2.PerceiveRequest(image=image_to_message(picture(box=BOX)))
    for _ in range(2):
        answer = await perceiver.perceive(asked, Deadline(30))
        states = {status.task: task_pb2.TaskState.Name(status.state) for status in answer.task_status}
        assert [states[task] for task in TASKS[:3:2]] == ["TASK_STATE_OK", "TASK_STATE_OK"]
        assert [segment.is_thing for segment in answer.panoptic.segments][:2] == [True, False]
    told = [record.message for record in caplog.records if "is sent whole pictures" in record.message]
    seen = request.node.callspec.params["perceiver"]
    assert len(told) == (0 if seen else len(ASKED)), "each task is said once, and is not asked again for a while"
