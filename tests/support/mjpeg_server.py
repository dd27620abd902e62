"""An HTTP camera that sends JPEG after JPEG, as many cheap network cameras do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def mjpeg_camera(
    pictures: Sequence[bytes],
    frames_per_second: float,
    port: int = 0,
    host: str = "127.0.0.1",
    served: list[int] | None = None,
) -> Iterator[str]:
    """Serves the pictures over and over as multipart/x-mixed-replace; yields the URL. Port 0 takes a free one.

    served: gets how many pictures went over each connection, for who wants to know.
    """
    stopped = threading.Event()
    counts: list[int] = [] if served is None else served

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            number = 0
            place = len(counts)
            counts.append(0)
            with suppress(OSError):
                while not stopped.is_set():
                    picture = pictures[number % len(pictures)]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")
                    number += 1
                    counts[place] = number
                    time.sleep(1 / frames_per_second)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/video"
    finally:
        stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()
