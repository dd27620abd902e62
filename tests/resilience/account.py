"""What a load says of the harm that was done meanwhile: how long until all was whole again, and what was missing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tests.resilience.agent import answered_at
from tests.resilience.harm import AGENT, AGENTS_LINK, Done
from tests.resilience.offered import Offered
from tests.support.contract_models import TASKS

_IN_A_ROW = 3
"""As many whole scenes in a row are no accident."""


def recoveries(done: Sequence[Done], load: Offered, frames: Sequence[dict[str, Any]]) -> str:
    """A line for each kind of harm: seconds from its end to the next whole scene of several, and to the next harm.

    frames: the agent's answers, by which harm to the agent and its link is judged; requests feel nothing of it.
    """
    since_1970 = time.time() - time.monotonic()
    sent = sorted(load.ended, key=lambda one: one.sent)
    of_requests = [(one.sent, one.sent + one.seconds, one.result == "whole") for one in sent]
    of_frames = [
        (answered_at(frame) - frame["age_seconds"] - since_1970, answered_at(frame) - since_1970, _is_whole(frame))
        for frame in frames
    ]
    found: dict[str, list[float | None]] = {}
    for one, following in pairwise([*done, None]):
        assert one is not None
        probes = of_frames if one.harm.target in (AGENT, AGENTS_LINK) else of_requests
        last = following.began if following is not None else float("inf")
        found.setdefault(one.harm.kind, []).append(_recovery(probes, one.ended, last))
    lines = []
    for kind, seconds in sorted(found.items()):
        known = [second for second in seconds if second is not None]
        told = f"{statistics.median(known):5.1f} s, at most {max(known):5.1f} s" if known else "-"
        late = f"; {len(seconds) - len(known)} not before the next harm" if len(known) < len(seconds) else ""
        lines.append(f"  {kind:<20} {len(seconds):3} times, whole again after {told}{late}")
    return "\n".join(lines)


def _recovery(probes: Sequence[tuple[float, float, bool]], ended: float, last: float) -> float | None:
    """Seconds until the first of several whole ones; None where that is not before `last`.

    probes: when each was sent, when it ended, whether it was whole; in the order of their sending.
    """
    row: list[float] = []
    for sent, end, is_whole in probes:
        if sent < ended:
            continue
        row = [*row, end] if is_whole else []
        if len(row) == _IN_A_ROW:
            return row[0] - ended if row[0] < last else None
    return None


def availability(load: Offered, callers: int, frames: Sequence[dict[str, Any]]) -> str:
    """A line for each task: in how many of the scenes its answer is, and for how much of the callers' time.

    A caller's time is in one request after the other; while one that lacks the answer lasts, and in the pause after an
    error, the task is not available to it.
    """
    scenes = [one for one in load.ended if one.answered is not None]
    of_camera = [frame["task_status"] for frame in frames if frame["result"] == "scene"]
    lines = []
    for task in TASKS:
        held = [one for one in scenes if one.answered is not None and task in one.answered]
        time_share = sum(one.seconds for one in held) / (callers * load.lasted)
        in_camera = sum(_is_answered(status[task]) for status in of_camera) / max(1, len(of_camera))
        lines.append(
            f"  {task:<22} in {len(held) / max(1, len(scenes)):6.1%} of the scenes, {time_share:6.1%} of the time; "
            f"in {in_camera:6.1%} of the agent's scenes"
        )
    return "\n".join(lines)


def _is_whole(frame: dict[str, Any]) -> bool:
    return frame["result"] == "scene" and all(_is_answered(status) for status in frame["task_status"].values())


def _is_answered(status: dict[str, str]) -> bool:
    return status["state"] in ("OK", "SKIPPED")
