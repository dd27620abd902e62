"""The viewer as a real process, spoken to as a browser does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from services.viewer.settings import ViewerSettings
from tests.services.viewer.camera_agent import SceneAgent
from tests.services.viewer.test_messages import unpack
from tests.support.service import PROJECT, ServiceProcess, eventually

LIMIT = 10_000


@pytest_asyncio.fixture
async def browser(viewer: ServiceProcess) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of the viewer."""
    async with aiohttp.ClientSession(f"http://{viewer.address}") as session:
        yield session


def address_of(agent: SceneAgent, camera: str) -> str:
    return f"/camera?agent={agent.address}&camera={camera}"


async def test_the_page_is_served_whole_and_may_load_nothing_from_elsewhere(browser):
    async with browser.get("/") as answer:
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in (await answer.text()).replace("http-equiv", "")
    for path in ("main.js", "style.css", "icon.svg"):
        async with browser.get(f"/page/{path}") as answer:
            assert answer.status == 200
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with browser.get("/page/..%2f..%2fsettings.py") as answer:
        assert answer.status in (403, 404)


async def test_health(browser):
    async with browser.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "SERVING"})


async def test_cameras_are_listed_again_and_again(browser, agent):
    async with browser.ws_connect("/cameras") as socket:
        for _ in range(2):
            listed = json.loads(await socket.receive_str(timeout=5))
            await socket.send_str("drawn")
            assert listed["max_image_bytes"] is None
            (found,) = listed["agents"]
            assert found["address"] == agent.address
            states = {camera["name"]: camera["state"] for camera in found["cameras"]}
            assert states == {"street": "streaming", "still": "streaming", "yard": "waiting"}


@pytest.mark.parametrize("path", ["/cameras", "/camera", "/perceive"])
async def test_pages_of_other_origins_are_refused(browser, path):
    headers = {"Origin": "https://elsewhere.example"}
    method = "POST" if path == "/perceive" else "GET"
    async with browser.request(method, path, headers=headers) as answer:
        assert answer.status == 403
        assert "https://elsewhere.example" in await answer.text()


async def test_the_page_s_own_origin_may_watch(browser, viewer):
    async with browser.ws_connect("/cameras", origin=f"http://{viewer.address}") as socket:
        assert json.loads(await socket.receive_str(timeout=5))["kind"] == "cameras"


async def test_only_the_agents_of_the_settings_are_asked(browser):
    async with browser.get("/camera?agent=127.0.0.1:1&camera=street") as answer:
        assert answer.status == 404


async def test_a_camera_that_the_agent_does_not_know_says_so(browser, agent):
    async with browser.ws_connect(address_of(agent, "attic")) as socket:
        status = json.loads(await socket.receive_str(timeout=5))["status"]
    assert status["state"] == "unreachable"
    assert "no camera 'attic'" in status["reason"]


async def test_watchers_share_one_call_which_ends_with_the_last_of_them(browser, agent):
    camera = agent.cameras["street"]
    async with browser.ws_connect(address_of(agent, "street")) as first:
        header, picture, panoptic = unpack(await _next_scene(first))
        assert header["segments"]
        assert picture.startswith(b"\xff\xd8")
        assert panoptic.startswith(b"\x89PNG")
        async with browser.ws_connect(address_of(agent, "street")) as second:
            await _next_scene(second)
            assert camera.watchers == 1
        await _next_scene(first)
        assert camera.watchers == 1
    await asyncio.to_thread(eventually, lambda: camera.watchers == 0, 5)


async def test_a_page_that_draws_nothing_gets_no_more_and_holds_up_nobody(browser, agent, viewer):
    async with (
        browser.ws_connect(address_of(agent, "street")) as stuck,
        browser.ws_connect(address_of(agent, "street")) as lively,
    ):
        numbers = [unpack(await _next_scene(lively))[0]["number"] for _ in range(8)]
        assert numbers[-1] - numbers[0] == 7
        await asyncio.sleep(0.2)
        assert await _count(stuck) == 2
        await stuck.send_str("drawn")
        assert unpack(await _next_scene(stuck))[0]["number"] >= numbers[-1]
    assert 'perception_viewer_scenes_total{outcome="missed"}' in viewer.metrics()


async def test_pictures_need_a_gateway(browser):
    async with browser.post("/perceive", data=b"picture") as answer:
        assert answer.status == 404
        assert "GATEWAY_URL" in (await answer.json())["error"]


def _chunks(size: int) -> Callable[[], AsyncIterator[bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(0, size, 1000):
            yield bytes(1000)

    return chunks


async def test_limits_and_errors_are_clear_and_sigterm_says_goodbye(agent, tmp_path):
    settings = {"CAMERA_AGENTS": agent.address, "GATEWAY_URL": "127.0.0.1:1", "MAX_IMAGE_BYTES": LIMIT, "MAX_PAGES": 1}
    with ServiceProcess("viewer", tmp_path, **settings) as process:
        async with aiohttp.ClientSession(f"http://{process.address}") as session:
            for body in (bytes(LIMIT + 1), _chunks(LIMIT + 1000)()):
                async with session.post("/perceive", data=body) as answer:
                    assert answer.status == 413
                    assert f"at most {LIMIT} bytes" in (await answer.json())["error"]
            async with session.post("/perceive", data=b"picture") as answer:
                assert answer.status == 503
                assert (await answer.json())["error"]
            async with session.ws_connect("/cameras") as socket:
                async with session.get("/cameras") as answer:
                    assert answer.status == 503
                    assert "MAX_PAGES" in await answer.text()
                process.terminate()
                while (message := await socket.receive(timeout=10)).type is not aiohttp.WSMsgType.CLOSE:
                    assert message.type is aiohttp.WSMsgType.TEXT
                assert message.data == aiohttp.WSCloseCode.GOING_AWAY
        assert await asyncio.to_thread(process.process.wait, 10) == 0
        said = [record["message"] for record in process.records()]
        assert said.index("draining") < said.index("stopped") == len(said) - 1


def test_help_names_every_setting():
    shown = subprocess.run(
        [sys.executable, "-m", "services.viewer", "--help"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert [name for name in ViewerSettings.model_fields if name.upper() not in shown] == []


def test_the_command_serves_until_it_is_interrupted(agent):
    command = [
        sys.executable,
        "-c",
        "from services.viewer.cli import app; app()",
        "--port=0",
        f"--agents={agent.address}",
    ]
    environment = {**os.environ, "METRICS_PORT": "0"}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        address = json.loads(process.stderr.readline())["address"]
        with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        process.stderr.read()


def test_a_taken_port_ends_the_program(viewer, tmp_path: Path):
    port = viewer.address.rpartition(":")[2]
    second = ServiceProcess("viewer", tmp_path, PORT=port)
    assert second.process.wait(20) == 1
    assert f"PORT: cannot listen on 127.0.0.1:{port}" in second.output()


async def _count(socket: aiohttp.ClientWebSocketResponse) -> int:
    """How many messages have come, and come within a third of a second."""
    received = 0
    with suppress(TimeoutError):
        while await socket.receive(timeout=0.3):
            received += 1
    return received


async def _next_scene(socket: aiohttp.ClientWebSocketResponse) -> bytes:
    while True:
        message = await socket.receive(timeout=5)
        await socket.send_str("drawn")
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        assert message.type is aiohttp.WSMsgType.TEXT, message
