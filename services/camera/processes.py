"""Starting other programs and ending them, whatever they hang in.

By the standard library and not by the event loop: uvloop forks, and the fork of a process full of gRPC's threads was
seen to hang before it became the other program, holding on to the pipes of all others. The standard library's vfork
runs none of the handlers that wait for such threads.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_KILLED_SECONDS = 2.0
_PROJECT = Path(__file__).resolve().parents[2]


def start_python(module: str, *arguments: str, **pipes: int) -> subprocess.Popen[bytes]:
    """`python -m module` of this project. pipes: stdin, stdout and stderr as `subprocess.Popen` takes them."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=_PROJECT, bufsize=0, **({"stdin": subprocess.DEVNULL} | pipes))  # type: ignore[call-overload,no-any-return]


async def end(process: subprocess.Popen[bytes], patience_seconds: float) -> None:
    """Waits for the end of a process, and kills it after some seconds; at once where this is cancelled."""
    try:
        await _wait(process, patience_seconds)
    finally:
        process.kill()
        # Not for ever: a driver that hangs holds even a killed process.
        await _wait(process, _KILLED_SECONDS)


async def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, seconds)
