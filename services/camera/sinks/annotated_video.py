"""A film of what a camera saw, with the scenes drawn over it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from perception import Scene

from services.camera.gateway_stream import SentFrame
from services.camera.sinks.base import Answer

_TIME_BASE = Fraction(1, 1000)
# Without B-frames, because fragments cannot say that the first picture comes later than the first byte.
_OPTIONS = {"preset": "veryfast", "crf": "23", "bf": "0"}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
"""A fragment for each key frame: all but the last seconds can be played even when the agent was killed."""
_KEY_FRAME_EVERY = 50


class AnnotatedVideo:
    """H.264 in MP4, each frame at its capture time, or at its place in a film that is not played at its own pace.

    Frames without a scene are left out.

    The first picture settles the size; pictures of another one, after a camera was set anew, are scaled to it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", container_options=_FRAGMENTS)
        self._stream: av.VideoStream | None = None
        self._start = 0.0
        self._last = -1

    def add(self, answer: Answer, sent: SentFrame) -> None:
        """Draws and encodes a frame that has a scene."""
        if not answer.HasField("scene"):
            return
        picture = Scene.from_message(answer.scene, sent.frame.jpeg).draw()
        header = sent.frame.header
        seconds = header.capture_time if header.position is None else header.position
        if self._stream is None:
            # H.264 halves the colour planes, so both sides must be even.
            self._stream = self._open(*(max(2, side - side % 2) for side in picture.shape[:2]))
            self._start = seconds
        elif header.position is not None and header.is_cut:  # the film has started again
            self._start = seconds - float((self._last + 1) * _TIME_BASE)
        width, height = self._stream.width, self._stream.height
        if abs(picture.shape[0] - height) > 1 or abs(picture.shape[1] - width) > 1:
            picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
        self._last = max(self._last + 1, round((seconds - self._start) / _TIME_BASE))
        frame.pts, frame.time_base = self._last, _TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Completes the film."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def _open(self, height: int, width: int) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=25, options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.gop_size = _KEY_FRAME_EVERY
        return stream
