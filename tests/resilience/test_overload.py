"""Ten times as much is offered as the system can do: it does as much as it can, beside one that admits everybody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.resilience.conftest import SECONDS, is_long
from tests.resilience.offered import Offered, closed_loop, offer
from tests.support.contract_models import write_throttled_model
from tests.support.service import ServiceProcess
from tests.support.stack import TAXONOMY
from tests.support.triton import TritonServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3 * SECONDS + 120)]

SERVICE_SECONDS = 0.2
CAPACITY = 1 / SERVICE_SECONDS
DEADLINE = 2.0
PEAK_SECONDS = max(1.5, SECONDS / 10)
LOAD_SECONDS = max(5.0, SECONDS)
WARM_UP = 1.0
"""Seconds of the load in which the system learns that there is one."""


@pytest.fixture(scope="module")
def triton(
    start_triton: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A model that takes a fifth of a second for a picture, in which the processor is free."""
    repository = tmp_path_factory.mktemp("slow")
    write_throttled_model(repository, SERVICE_SECONDS)
    server = start_triton(repository, ["detection"])
    yield server
    server.kill()  # told to stop, it would work on what nobody waits for


@contextmanager
def system(triton: TritonServer, directory: Path, **settings: object) -> Iterator[ServiceProcess]:
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    with ExitStack() as stack:
        detection = ServiceProcess("detection", directory, ENGINE="triton", TRITON_URL=triton.url, **settings)
        stack.enter_context(detection).wait_until_ready()
        told = {"DETECTION_URL": detection.address, "TAXONOMY": taxonomy, **settings}
        yield stack.enter_context(ServiceProcess("gateway", directory, **told)).wait_until_ready()


def goodput(offered: Offered) -> float:
    """Whole scenes in time, a second, after the warm-up."""
    began = min(one.sent for one in offered.ended)
    return offered.answered(began + WARM_UP, began + LOAD_SECONDS) / (LOAD_SECONDS - WARM_UP)


async def seconds_to_a_scene(address: str) -> float:
    """From now on, to a caller who tries again and again."""
    began = time.monotonic()
    while not (await closed_loop(address, 1, 0.1, DEADLINE)).answered():
        assert time.monotonic() - began < 60
    return time.monotonic() - began


async def test_goodput_stays_at_capacity(triton: TritonServer, tmp_path: Path) -> None:
    with system(triton, tmp_path) as gateway:
        alone = await closed_loop(gateway.address, 4, PEAK_SECONDS, DEADLINE)
        peak = len(alone.ended) / alone.lasted
        before = gateway.resident_megabytes()
        offered = await offer(gateway.address, 10 * CAPACITY, LOAD_SECONDS, DEADLINE)
        grown = gateway.resident_megabytes() - before
        recovered = await seconds_to_a_scene(gateway.address)
        refused = [one for one in offered.ended if one.result == "RESOURCE_EXHAUSTED"]
    with system(triton, tmp_path, ADMISSION_CONTROL="false") as gateway:
        without = await offer(gateway.address, 10 * CAPACITY, LOAD_SECONDS, DEADLINE)
    admitted = [one for one in offered.ended if one.result != "RESOURCE_EXHAUSTED"]
    in_time = sum(one.result == "whole" for one in admitted) / len(admitted)
    median = sorted(one.seconds for one in refused)[len(refused) // 2]
    share, share_without = goodput(offered) / peak, goodput(without) / peak
    rate = len(offered.ended) / LOAD_SECONDS
    print(
        f"\npeak {peak:.1f} scenes/s; {rate:.0f}/s offered for {LOAD_SECONDS:.0f} s: "
        f"goodput {goodput(offered):.1f}/s, {share:.2f} of the peak, {dict(offered.results)}; "
        f"{100 * in_time:.0f} % of those admitted in time; refused after {1000 * median:.0f} ms (median); "
        f"gateway grew by {grown:.1f} MB; a scene {recovered:.2f} s after the load. "
        f"Without admission control: goodput {goodput(without):.1f}/s, {share_without:.2f} of the peak, "
        f"{dict(without.results)}"
    )
    assert not offered.unaccounted
    assert share >= (0.9 if is_long() else 0.6)
    assert share > 1.5 * share_without
    assert in_time > (0.9 if is_long() else 0.6)
    assert grown < 100
    assert recovered < 5 * DEADLINE
