"""A running viewer over an agent with real gRPC, and a browser to look at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from perception.v1 import camera_pb2

from tests.services.viewer.browsing import chromium
from tests.services.viewer.camera_agent import SceneAgent, SceneCamera, SceneFrame, scene_frames
from tests.support.service import ServiceProcess


@pytest.fixture(scope="session")
def street() -> list[SceneFrame]:
    """Some frames of a street."""
    return scene_frames("street", 6)


@pytest.fixture(scope="module")
def agent(street: list[SceneFrame]) -> Iterator[SceneAgent]:
    """An agent with three cameras: `street` moves, `still` shows one frame again and again, `yard` waits."""
    cameras = [SceneCamera("street", street), SceneCamera("still", street[:1]), SceneCamera("yard", street[:1])]
    cameras[2].set_state(camera_pb2.CAMERA_STATE_WAITING, "connection refused", retry_seconds=30)
    running = SceneAgent(cameras).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def viewer(agent: SceneAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A viewer of that agent, without a gateway."""
    with ServiceProcess("viewer", tmp_path_factory.mktemp("viewer"), CAMERA_AGENTS=agent.address) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. Of a module, not of the session: while it runs, this thread can run no other event loop."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def expect() -> Any:
    """Playwright's assertions, which wait until they hold."""
    return pytest.importorskip("playwright.sync_api").expect
