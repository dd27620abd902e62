"""When a frame was taken, by the clock of this machine."""

from __future__ import annotations

from collections.abc import Callable

from services.camera.capture.protocol import Clock

_TRUSTED_SECONDS = 5.0
"""A sender's clock that is further off than this is not believed."""
_WINDOW_SECONDS = 30.0
_JUMP_SECONDS = 5.0


class CaptureClock:
    """Gives every frame of a live source its capture time, in seconds since 1970.

    The best there is of:
    - "sender": the sender's own clock (RTCP sender reports), where it agrees with this machine's within 5 s
    - "stream": the frame's place on the source's own clock, laid on this machine's where the least delay between the
      two was seen in the last half minute, so that neither jitter nor a drift between the clocks adds up
    - "arrival": when it arrived

    No frame is taken after it arrives, nor before the one that came before it.
    """

    def __init__(self) -> None:
        self._last = float("-inf")
        self._least: tuple[float, ...] = ()
        self._window_start = 0.0

    def capture_time(self, position: float | None, sender_time: float | None, arrival: float) -> tuple[float, Clock]:
        """The capture time, and which clock it comes from.

        position: seconds on the source's own clock. sender_time, arrival: seconds since 1970.
        """
        if sender_time is not None and abs(arrival - sender_time) < _TRUSTED_SECONDS:
            return self._in_order(sender_time, arrival), "sender"
        if position is None:
            return self._in_order(arrival, arrival), "arrival"
        return self._in_order(position + self._offset(arrival - position, arrival), arrival), "stream"

    def _in_order(self, capture_time: float, arrival: float) -> float:
        self._last = min(max(capture_time, self._last), arrival)
        return self._last

    def _offset(self, offset: float, arrival: float) -> float:
        """Least offset between both clocks in this window and the one before."""
        if self._least and abs(offset - min(self._least)) > _JUMP_SECONDS:
            self._least = ()  # the source's clock was set anew
        if not self._least:
            self._least, self._window_start = (offset,), arrival
        elif arrival - self._window_start > _WINDOW_SECONDS:
            self._least, self._window_start = (self._least[-1], offset), arrival
        else:
            self._least = (*self._least[:-1], min(self._least[-1], offset))
        return min(self._least)


class Pace:
    """Holds back the frames of a file to the pace at which they were taken.

    sleep: waits for some seconds. A reader that falls more than a second behind goes on from where it is.
    """

    _FALLEN_BEHIND_SECONDS = 1.0

    def __init__(self, now: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._now = now
        self._sleep = sleep
        self._start: float | None = None

    def wait_for(self, position: float) -> None:
        """Waits until the frame at that place, in seconds, is due."""
        now = self._now()
        if self._start is None or now - (self._start + position) > self._FALLEN_BEHIND_SECONDS:
            self._start = now - position
        self._sleep(max(0.0, self._start + position - now))

    def restart(self) -> None:
        """The next frame is due at once: the file starts again."""
        self._start = None


class Thinning:
    """Chooses which frames to keep so that at most `frames_per_second` a second remain, evenly spread."""

    def __init__(self, frames_per_second: float | None) -> None:
        self._interval = 1 / frames_per_second if frames_per_second else 0.0
        self._due = float("-inf")

    def keeps(self, capture_time: float) -> bool:
        """Whether to keep the frame taken then, in seconds."""
        # A frame that is a little early, because clocks jitter, is kept: half of a 30 fps camera is 15 fps.
        if capture_time < self._due - self._interval / 10:
            return False
        has_fallen_behind = capture_time >= self._due + self._interval
        self._due = (capture_time if has_fallen_behind else self._due) + self._interval
        return True
