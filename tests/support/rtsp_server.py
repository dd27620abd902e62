"""An RTSP server that plays H.264 over and over, for tests: GStreamer's, run by the system's own Python.

    /usr/bin/python3 rtsp_server.py ACCESS_UNITS PORT [--frames-per-second 25] [--stall-after FRAMES]

ACCESS_UNITS holds one coded picture after the other (Annex B), each after its length as a 32-bit big-endian number.
rtsp://127.0.0.1:PORT/camera is one live camera, shared by all clients, over TCP or UDP. With --stall-after it goes
silent after so many frames and keeps all connections open. It prints "serving" once it listens.

Debian: python3-gi, gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-base, -good and -bad.
"""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( appsrc name=camera is-live=true format=time caps=video/x-h264,stream-format=byte-stream,alignment=au "
    "! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 )"
)


class Camera:
    """Gives the pictures to every media that a client opens, each from the start."""

    def __init__(self, units: list[bytes], frames_per_second: int, stall_after: int | None) -> None:
        self._units = units
        self._duration = Gst.SECOND // frames_per_second
        self._stall_after = stall_after

    def configure(self, factory: object, media: GstRtspServer.RTSPMedia) -> None:
        """Feeds a new media; called by the server."""
        source = media.get_element().get_by_name_recurse_up("camera")
        numbers = count()
        source.connect("need-data", lambda source, length: self._push(source, next(numbers)))

    def _push(self, source: Gst.Element, number: int) -> None:
        if self._stall_after is not None and number >= self._stall_after:
            return
        buffer = Gst.Buffer.new_wrapped(self._units[number % len(self._units)])
        buffer.pts = buffer.dts = number * self._duration
        buffer.duration = self._duration
        source.emit("push-buffer", buffer)


def read_units(path: Path) -> list[bytes]:
    """The coded pictures of a file."""
    data, units, at = path.read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return units


def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser(description="A live RTSP camera.")
    parser.add_argument("units", type=Path)
    parser.add_argument("port")
    parser.add_argument("--frames-per-second", type=int, default=25)
    parser.add_argument("--stall-after", type=int)
    options = parser.parse_args()

    Gst.init(None)
    camera = Camera(read_units(options.units), options.frames_per_second, options.stall_after)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    factory.connect("media-configure", camera.configure)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    server.get_mount_points().add_factory("/camera", factory)
    if server.attach(None) == 0:
        raise SystemExit(f"cannot listen on port {options.port}")
    print("serving", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
