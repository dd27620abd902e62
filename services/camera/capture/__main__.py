"""The process beside one camera: opens its source, decodes, and hands over the newest frame when it is asked.

A process of its own can be ended whatever it hangs in, takes nothing along when a decoder crashes, and leaves nothing
behind.

On standard input come `CaptureOptions` as a line of JSON (not as an argument, which all users of a machine can read:
a location may hold a password), then requests of one byte, FRAME or STATUS. Each is answered on standard output by two
32-bit big-endian lengths, then a JSON header (`Report`) and a JPEG. FRAME waits a moment for a frame that nobody has
seen yet. The end of standard input ends the process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from typing import BinaryIO

import av.logging

from services.camera.capture.jpeg import to_jpeg
from services.camera.capture.options import CaptureOptions, SourceError
from services.camera.capture.protocol import FRAME, LENGTHS, FrameHeader, Report
from services.camera.capture.source import Capture

_FRAME_WAIT_SECONDS = 0.1
_CLOSE_SECONDS = 0.5


def main() -> None:
    """Answers requests until standard input ends."""
    # Ctrl-C reaches every process of the terminal; the agent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    av.logging.set_level(None)
    options = CaptureOptions(**json.loads(sys.stdin.buffer.readline()))
    capture = Capture(options)
    capture.start()
    _answer(sys.stdin.buffer, sys.stdout.buffer, capture, options)
    # A source that is told goodbye frees its session at once; one that hangs must not hold the process.
    capture.stop(_CLOSE_SECONDS)
    os._exit(0)


def _answer(requests: BinaryIO, answers: BinaryIO, capture: Capture, options: CaptureOptions) -> None:
    while request := requests.read(1):
        report, jpeg = _report(capture, options, wants_frame=request == FRAME)
        header = json.dumps(asdict(report)).encode()
        try:
            answers.write(LENGTHS.pack(len(header), len(jpeg)) + header + jpeg)
            answers.flush()
        except BrokenPipeError:
            return


def _report(capture: Capture, options: CaptureOptions, *, wants_frame: bool) -> tuple[Report, bytes]:
    taken = capture.take(_FRAME_WAIT_SECONDS) if wants_frame else None
    if taken is None:
        return capture.report(), b""
    try:
        jpeg = to_jpeg(taken.picture, options)
    except SourceError:
        capture.count_broken()
        return capture.report(), b""
    header = FrameHeader(taken.capture_time, taken.clock, jpeg.height, jpeg.width, taken.is_cut, taken.position)
    return capture.report(header), jpeg.data


if __name__ == "__main__":
    main()
