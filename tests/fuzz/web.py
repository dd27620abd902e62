"""The viewer's HTTP and its sockets, of real processes, with what no browser would send."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random

import aiohttp
import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from services.runtime.tokens import digest
from tests.fuzz.browsing import TOKEN, cases, frame, request, upgrade
from tests.fuzz.rpc import AttackReport, System
from tests.support.contract_models import picture
from tests.support.service import ServiceProcess, peak_megabytes

AT_ONCE = 8
QUIET_SECONDS = 0.3
"""Without another byte from the viewer a case is over: it may well wait for the rest of a request."""
ANSWER_SECONDS = 30.0
_SETTINGS = {"MAX_IMAGE_BYTES": 2**20, "RECEIVE_SECONDS": 1}
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_DEFECTS = {"500", "501", "502"}


class Viewers:
    """One that anybody may look at, and one that asks for a token, before a system's cameras and gateway."""

    def __init__(self, system: System, directory: Path) -> None:
        tokens = directory / "people.yaml"
        tokens.write_text(yaml.safe_dump([{"name": "w", "sha256": digest(TOKEN), "scopes": ["watch", "perceive"]}]))
        asking = {"AUTHENTICATION": "required", "AUTHENTICATION_TOKENS_FILE": tokens}
        self.agent = f"127.0.0.1:{system.agent.port}"
        upstream = {"CAMERA_AGENTS": self.agent, "GATEWAY_URL": system.gateway}
        self._viewers = [
            ServiceProcess("viewer", directory, **_SETTINGS, **upstream, **settings) for settings in ({}, asking)
        ]
        self._stack = ExitStack()

    def __enter__(self) -> Viewers:
        for viewer in self._viewers:
            self._stack.enter_context(viewer)
        self.ports = [int(viewer.address.partition(":")[2]) for viewer in self._viewers]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def megabytes(self) -> list[float]:
        """The most memory that each ever held, in units of 2**20 bytes."""
        return [peak_megabytes(viewer.process.pid) for viewer in self._viewers]

    async def problems(self) -> list[str]:
        """What is wrong with them now: one that ended, shows no camera any more, or logged a defect."""
        found = []
        for viewer in self._viewers:
            if viewer.process.poll() is not None:
                found.append(f"the viewer ended with {viewer.process.returncode}: {viewer.output()[-1500:]}")
            elif problem := await _problem(viewer.address):
                found.append(problem)
            for line in viewer.output().splitlines():
                if not line.startswith("{") or json.loads(line)["level"] == "ERROR":
                    found.append(f"the viewer logged {line[-1500:]}")
        return found


async def attack(viewers: Viewers, numbers: Iterator[int], seed: int) -> AttackReport:
    """Sends a case for each number, to one viewer and the other in turn; then looks at how they are."""
    report = AttackReport()
    makers = cases(viewers.agent)

    async def send() -> None:
        for number in numbers:
            random = Random(f"{seed} {number}")
            sent = random.choice(makers)(random)
            statuses = await _answers(viewers.ports[number % 2], sent)
            report.calls += 1
            for status in statuses or ["no answer"]:
                report.codes[status] = report.codes.get(status, 0) + 1
            if _DEFECTS.intersection(statuses):
                report.found.append(f"{statuses} for {sent[:300]!r}")

    async with _loitering(viewers):
        await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    report.found += await viewers.problems()
    return report


async def _answers(port: int, sent: bytes) -> list[str]:
    """The status of each answer that bytes get on a connection of their own."""
    received = bytearray()
    async with connection(port) as (reader, writer):
        with suppress(ConnectionError, TimeoutError):
            writer.write(sent)
            while part := await asyncio.wait_for(reader.read(2**16), QUIET_SECONDS):
                received += part
    return [status.decode() for status in _STATUS.findall(received)]


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that reads no more than it is asked to, and ends without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def _loitering(viewers: Viewers) -> AsyncIterator[None]:
    """Those who send a byte now and then, and those who look at nothing that they are sent, all the while."""
    upload = request("POST", "/perceive", "Content-Length: 1000000")
    form = request("POST", "/login", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 1000")
    watching = upgrade(f"/camera?agent={viewers.agent}&camera=gate")
    loiterers = [
        asyncio.create_task(_loiter(port, begin, part))
        for port in viewers.ports
        for begin, part in ((b"GET / HTTP/1.1\r\nX: ", b"x"), *[(upload, b"x")] * 6, (form, b"x"))
    ]
    loiterers += [asyncio.create_task(_loiter(port, watching, frame(b"drawn"))) for port in viewers.ports]
    try:
        yield
    finally:
        for loiterer in loiterers:
            loiterer.cancel()
        ended = await asyncio.gather(*loiterers, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def _loiter(port: int, begin: bytes, part: bytes) -> None:
    while True:
        async with connection(port) as (_, writer):
            with suppress(ConnectionError):
                writer.write(begin)
                while not writer.is_closing():
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.2)


async def _problem(address: str) -> str:
    """Why a person would not see the cameras, or what is on a picture; empty where they would."""
    async with aiohttp.ClientSession(f"http://{address}", cookies={"perception_token": TOKEN}) as browser:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                async with browser.ws_connect("/cameras") as socket:
                    listed = await socket.receive()
                async with browser.post("/perceive", data=_png(picture())) as answer:
                    status = answer.status
        except (TimeoutError, aiohttp.ClientError) as error:
            return f"a person is not answered: {error!r}"
    if '"gate"' not in str(listed.data):
        return f"the list of cameras lacks one: {listed}"
    return "" if status == 200 else f"a good picture is answered {status}"


def _png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])
