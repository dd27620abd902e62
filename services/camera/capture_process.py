"""The agent's end of a capture process."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.camera.capture.options import CaptureOptions, SourceError
from services.camera.capture.protocol import FRAME, LENGTHS, STATUS, FrameHeader, Report

_PROJECT = Path(__file__).resolve().parents[2]
_ANSWER_SECONDS = 20.0
"""A capture process answers within a fraction of a second even when its source hangs."""
_GOODBYE_SECONDS = 1.0


class CaptureProcess:
    """One running capture process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, *, wants_frame: bool) -> tuple[Report, bytes]:
        """How the source is, and with it, where wanted, the newest frame that was not taken before, as JPEG.

        Raises `SourceError` where the process has ended or does not answer.
        """
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                requests.write(FRAME if wants_frame else STATUS)
                await requests.drain()
                header_length, jpeg_length = LENGTHS.unpack(await answers.readexactly(LENGTHS.size))
                header: dict[str, Any] = json.loads(await answers.readexactly(header_length))
                jpeg = await answers.readexactly(jpeg_length)
        except TimeoutError:
            raise SourceError(f"the capture process does not answer within {_ANSWER_SECONDS:.0f} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            status = await self._process.wait()
            raise SourceError(f"the capture process ended with status {status}") from None
        frame = header.pop("frame")
        return Report(**header, frame=frame and FrameHeader(**frame)), jpeg

    async def end(self) -> None:
        """Lets the process say goodbye to its source, and ends it whatever it hangs in."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await self._process.wait()
        finally:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()


@asynccontextmanager
async def capturing(options: CaptureOptions) -> AsyncIterator[CaptureProcess]:
    """Starts a capture process, and ends it with the block. The options may hold a password: they go no further."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.camera.capture",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_PROJECT,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(options)).encode() + b"\n")
    capture = CaptureProcess(process)
    try:
        yield capture
    finally:
        await capture.end()
