"""A real RTSP camera on this machine: GStreamer's server in a process of its own, which a test may kill."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import av
import pytest
from av.bitstream import BitStreamFilterContext

from tests.support.triton import free_ports

SYSTEM_PYTHON = "/usr/bin/python3"
NEEDS = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
_SERVER = Path(__file__).with_name("rtsp_server.py")
_FIND = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
missing = [name for name in ("appsrc", "h264parse", "rtph264pay") if Gst.ElementFactory.find(name) is None]
raise SystemExit(f"missing {missing}" if missing else 0)
"""


def require_gstreamer() -> None:
    """Skips the test where GStreamer's RTSP server is not installed."""
    try:
        found = subprocess.run([SYSTEM_PYTHON, "-c", _FIND], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip(f"no {SYSTEM_PYTHON}: Debian's GStreamer is not here")
    if found.returncode:
        reason = (found.stderr.strip().splitlines() or [""])[-1]
        pytest.skip(f"no GStreamer RTSP server ({reason}): apt-get install {NEEDS}")


def write_access_units(video: Path, units: Path) -> Path:
    """Writes the coded pictures of an H.264 file as `rtsp_server.py` reads them. Returns `units`."""
    with av.open(str(video)) as container, units.open("wb") as file:
        stream = container.streams.video[0]
        annex_b = BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in container.demux(stream):
            for filtered in annex_b.filter(packet if packet.size else None):
                data = bytes(filtered)
                file.write(len(data).to_bytes(4) + data)
    return units


class RtspServer:
    """One camera at `url`; `start` and `kill` as often as wanted, on the same port."""

    def __init__(self, units: Path, *options: str) -> None:
        self._command = [SYSTEM_PYTHON, str(_SERVER), str(units), str(free_ports(1)[0]), *options]
        self.url = f"rtsp://127.0.0.1:{self._command[3]}/camera"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the server and waits until it listens."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"serving\n"

    def kill(self) -> None:
        """Ends it as a crash or a pulled plug does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        """Stops it where it is: connections stay open, and nothing comes any more."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
