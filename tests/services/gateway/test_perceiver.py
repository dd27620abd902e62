"""One frame through real task services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from perception.convert import image_to_message, panoptic_from_message
from perception.v1 import perception_pb2, task_pb2
from prometheus_client import REGISTRY

from services.gateway.perceiver import Perceiver
from services.gateway.settings import GatewaySettings
from services.gateway.tasks import connect
from services.gateway.taxonomy import Taxonomy
from services.runtime.timing import Deadline
from tests.support.contract_models import TASKS, picture
from tests.support.service import ServiceProcess
from tests.support.stack import TAXONOMY

BOX = (10, 8, 40, 30)


@pytest_asyncio.fixture
async def perceiver(
    service: Callable[[str], ServiceProcess], tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Perceiver]:
    """Of a gateway with the settings that a test names."""
    taxonomy = tmp_path / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    addresses = {f"{task}_url": service(task).address for task in TASKS}
    settings = GatewaySettings(**addresses, **getattr(request, "param", {}))
    tasks = connect(settings)
    running = Perceiver(settings, Taxonomy.load(str(taxonomy)), tasks)
    yield running
    running.close()
    for client in tasks.values():
        await client.close()


def states(response: perception_pb2.PerceiveResponse) -> dict[str, str]:
    return {
        task_pb2.Task.Name(status.task): task_pb2.TaskState.Name(status.state).removeprefix("TASK_STATE_")
        for status in response.task_status
    }


async def test_what_is_left_out_is_said_and_detections_stand_in_for_masks(perceiver: Perceiver) -> None:
    request = perception_pb2.PerceiveRequest(image=image_to_message(picture(box=BOX)))
    whole = await perceiver.perceive(request, Deadline(30))
    assert set(states(whole).values()) == {"OK"}
    given_up = frozenset({task_pb2.TASK_CLASSIFICATION, task_pb2.TASK_INSTANCE_SEGMENTATION})
    less = await perceiver.perceive(request, Deadline(30), left_out=given_up)
    assert states(less) == {
        "TASK_DETECTION": "OK",
        "TASK_INSTANCE_SEGMENTATION": "SKIPPED",
        "TASK_SEMANTIC_SEGMENTATION": "OK",
        "TASK_CLASSIFICATION": "SKIPPED",
    }
    assert {s.reason for s in less.task_status if s.reason} == {"left out to keep the deadline"}
    thing, same = whole.panoptic.segments[0], less.panoptic.segments[0]
    assert (same.category, same.is_thing) == (thing.category, True)
    assert thing.attributes
    assert not same.attributes
    assert abs(same.box.x_max - thing.box.x_max) <= 2


def breaches() -> float:
    return REGISTRY.get_sample_value("perception_limit_breaches_total", {"setting": "max_segments"}) or 0.0


@pytest.mark.parametrize(
    ("perceiver", "segments", "left_out"),
    [({}, 2, 0), ({"max_segments": 2}, 2, 0), ({"max_segments": 1}, 1, 1)],
    indirect=["perceiver"],
)
@pytest.mark.parametrize("form", [perception_pb2.PANOPTIC_FORMAT_PNG, perception_pb2.PANOPTIC_FORMAT_RLE])
async def test_a_scene_says_how_many_segments_a_limit_left_out(
    perceiver: Perceiver, segments: int, left_out: int, form: perception_pb2.PanopticFormat
) -> None:
    before = breaches()
    request = perception_pb2.PerceiveRequest(image=image_to_message(picture(box=BOX)), panoptic_format=form)
    scene = panoptic_from_message((await perceiver.perceive(request, Deadline(30))).panoptic)
    assert (len(scene.segments), scene.left_out) == (segments, left_out)
    assert scene.segments[0].is_thing
    assert breaches() - before == left_out, "counted where something is missing, and not where it just fits"


async def test_a_task_that_nobody_wants_is_not_left_out_but_not_asked_for(perceiver: Perceiver) -> None:
    request = perception_pb2.PerceiveRequest(image=image_to_message(picture(box=BOX)), tasks=[task_pb2.TASK_DETECTION])
    given_up = frozenset({task_pb2.TASK_CLASSIFICATION})
    response = await perceiver.perceive(request, Deadline(30), left_out=given_up)
    assert {s.reason for s in response.task_status if s.reason} == {"not asked for"}
