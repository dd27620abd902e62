"""The agent's end of a capture process."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import IO, Any

from services.camera import processes
from services.camera.capture.options import CaptureOptions, SourceError
from services.camera.capture.protocol import FRAME, LENGTHS, STATUS, FrameHeader, Report

_ANSWER_SECONDS = 20.0
"""A capture process answers within a fraction of a second even when its source hangs."""
_GOODBYE_SECONDS = 1.0


class CaptureProcess:
    """One running capture process: its standard input, and its standard output."""

    def __init__(self, requests: IO[bytes], answers: asyncio.StreamReader) -> None:
        self._requests = requests
        self._answers = answers

    async def ask(self, *, wants_frame: bool) -> tuple[Report, bytes]:
        """How the source is, and with it, where wanted, the newest frame that was not taken before, as JPEG.

        Raises `SourceError` where the process has ended or does not answer.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                # Never waits: one request is on its way at most.
                self._requests.write(FRAME if wants_frame else STATUS)
                header_length, jpeg_length = LENGTHS.unpack(await self._answers.readexactly(LENGTHS.size))
                header: dict[str, Any] = json.loads(await self._answers.readexactly(header_length))
                jpeg = await self._answers.readexactly(jpeg_length)
        except TimeoutError:
            raise SourceError(f"the capture process does not answer within {_ANSWER_SECONDS:.0f} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise SourceError("the capture process has ended") from None
        frame = header.pop("frame")
        return Report(**header, frame=frame and FrameHeader(**frame)), jpeg


@asynccontextmanager
async def capturing(options: CaptureOptions) -> AsyncIterator[CaptureProcess]:
    """Starts a capture process, and ends it with the block. Raises `SourceError` where none can be started."""
    try:
        process = processes.start_python("services.camera.capture", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:  # no memory, or too many processes: perhaps not the next time
        raise SourceError(f"no capture process can be started: {error}") from None
    assert process.stdin is not None
    assert process.stdout is not None
    answers = asyncio.StreamReader()
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(answers), process.stdout
        )
        try:
            process.stdin.write(json.dumps(asdict(options)).encode() + b"\n")
            yield CaptureProcess(process.stdin, answers)
        finally:
            transport.close()
    finally:
        # Which tells it to say goodbye to its source.
        process.stdin.close()
        await processes.end(process, _GOODBYE_SECONDS)
