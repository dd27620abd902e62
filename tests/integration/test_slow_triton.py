"""Cameras of thirty frames a second before a real Triton that does two: answers stay fresh, and nothing grows.

Some seconds each; five minutes with STREAM_SECONDS=300, which is what is promised:

    STREAM_SECONDS=300 pytest -s tests/integration/test_slow_triton.py
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from perception import PerceptionClient

from tests.support.cameras import ages, film, in_words
from tests.support.contract_models import configuration, picture
from tests.support.service import ServiceProcess
from tests.support.stack import TAXONOMY
from tests.support.triton import TritonServer

SECONDS = float(os.environ.get("STREAM_SECONDS", "12"))
FRAMES_PER_SECOND = 30
SERVICE_SECONDS = 0.5
WARM_UP_SCENES = 5
MOST_GROWTH_MEGABYTES = 8

pytestmark = [pytest.mark.integration, pytest.mark.timeout(SECONDS + 120)]


@pytest.fixture(scope="module")
def gateway(
    start_triton: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A gateway as it comes, before a detection service whose model in Triton takes half a second for a picture."""
    directory = tmp_path_factory.mktemp("slow")
    server = start_triton(write_throttled_model(directory / "models").parent, ["detection"])
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    with ExitStack() as stack:
        detection = ServiceProcess("detection", directory, ENGINE="triton", TRITON_URL=server.url)
        stack.enter_context(detection).wait_until_ready()
        gateway = ServiceProcess("gateway", directory, DETECTION_URL=detection.address, TAXONOMY=taxonomy)
        yield stack.enter_context(gateway).wait_until_ready()


def write_throttled_model(repository: Path) -> Path:
    """Writes a model that takes its time. Returns its folder."""
    folder = repository / "detection"
    (folder / "1").mkdir(parents=True)
    text = configuration("detection", batch=False, parameters={"seconds": str(SERVICE_SECONDS)})
    text = text.replace('"onnxruntime"', '"python"').replace('"model.onnx"', '"model.py"')
    (folder / "config.pbtxt").write_text(text)
    shutil.copy(Path(__file__).parents[1] / "support" / "throttled_detection.py", folder / "1" / "model.py")
    return folder


def seconds_alone(client: PerceptionClient) -> float:
    """How long a frame takes when there is no other: the median of five."""
    found = []
    for _ in range(5):
        started = time.monotonic()
        scene = client.perceive(picture())
        found.append(time.monotonic() - started)
        assert [segment.category for segment in scene.panoptic.segments] == ["green"]
    return statistics.median(found)


def check_freshness(scenes: list[tuple[float, float]], service: float) -> str:
    """The newest scene is never as old as three frames take. scenes: taken and answered, see `ages`."""
    answered, newest = ([age / service for age in found] for found in ages(scenes))
    words = f"age / time of a frame: {in_words(answered)} when answered, {in_words(newest)} before the next answer"
    assert max(newest) < 3, words
    return words


def test_a_fast_camera_gets_fresh_answers(gateway: ServiceProcess) -> None:
    frames = round(SECONDS * FRAMES_PER_SECOND)
    taken: list[float] = []
    scenes: list[tuple[float, float]] = []
    megabytes: list[float] = []
    results: Counter[str] = Counter()
    with PerceptionClient(gateway.address) as client:
        service = seconds_alone(client)
        stream = client.stream(film(frames, 1 / FRAMES_PER_SECOND, taken), camera="gate", track=True)
        for sequence, answer in enumerate(stream, 1):
            assert answer.sequence == sequence
            assert not answer.degradation
            if answer.scene:
                scenes.append((taken[sequence - 1], time.monotonic()))
                megabytes.append(gateway.resident_megabytes())
                results["scene"] += 1
            else:
                assert answer.dropped, answer
                results[answer.dropped.reason] += 1
    before, after = megabytes[WARM_UP_SCENES], megabytes[-1]
    freshness = check_freshness(scenes, service)
    print(
        f"\n{SECONDS:.0f} s at {FRAMES_PER_SECOND} frames/s; a frame alone takes {service:.3f} s; {freshness}; "
        f"{len(taken)} frames sent, {dict(results)}; gateway {before:.1f} MB after {WARM_UP_SCENES} scenes, "
        f"at most {max(megabytes):.1f}, {after:.1f} at the end"
    )
    assert len(taken) == frames == results["scene"] + results["superseded"]
    assert results["scene"] > SECONDS / SERVICE_SECONDS / 2
    assert after - before < MOST_GROWTH_MEGABYTES
