"""The main job on one machine: frames through the gateway, overlays and JSON out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from perception import PerceptionClient, PerceptionError, Scene, codecs
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from services.stack.frames import Frame, Source
from services.stack.report import Record, frames_table, stages_table, to_record

_ROWS = 40
_QUALITIES = (("PQ", ""), ("things", "_things"), ("stuff", "_stuff"))


@dataclass(frozen=True)
class RunResult:
    """What became of the frames of a run: a record for each that was perceived, and how many failed."""

    records: list[Record]
    failed: int


def perceive_sources(address: str, sources: Sequence[Source], output: Path, console: Console) -> RunResult:
    """Perceives every frame and writes what was seen into `output`.

    For each picture an overlay `<name>.jpg` and its map of segment ids `panoptic/<name>.png`, for a video one annotated
    `<name>.mp4`; and `scenes.jsonl`, a line for each frame. A frame that fails is named, and the rest goes on.
    """
    (output / "panoptic").mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    failed = 0
    with (
        PerceptionClient(address) as client,
        _progress(console) as progress,
        (output / "scenes.jsonl").open("w") as lines,
    ):
        bar = progress.add_task("perceiving", total=sum(source.count for source in sources))
        for source in sources:
            # Folders may hold pictures of the same names.
            prefix = f"{source.path.name}_" if len(sources) > 1 and source.path.is_dir() else ""
            with _Drawn(source, output) as drawn:
                for frame in source.frames(prefix):
                    try:
                        scene = client.perceive(frame.data)
                    except PerceptionError as error:
                        failed += 1
                        progress.console.print(f"[red]{frame.name}: {error.code.name}: {escape(str(error))}")
                        continue
                    finally:
                        progress.update(bar, advance=1, description=frame.name[-28:])
                    drawn.add(frame, scene)
                    records.append(to_record(frame.name, scene))
                    lines.write(json.dumps(records[-1]) + "\n")
    return RunResult(records, failed)


def print_result(result: RunResult, quality: dict[str, Any] | None, output: Path, console: Console) -> None:
    """Prints tables about the frames, with their panoptic quality where the truth is known."""
    console.print(frames_table(result.records[:_ROWS], quality["frames"] if quality else None))
    if len(result.records) > _ROWS:
        console.print(f"… and {len(result.records) - _ROWS} frames more in {output / 'scenes.jsonl'}")
    console.print(stages_table(result.records))
    if quality:
        values = ", ".join(f"{name} {quality[f'PQ{key}'] * 100:.1f}" for name, key in _QUALITIES)
        console.print(f"panoptic quality against the truth: {values}")
    console.print(f"{len(result.records)} scenes in {output}/, {result.failed} frames failed")


class _Drawn:
    """Where the pictures of a source go: overlay and map of each picture, or one video."""

    def __init__(self, source: Source, output: Path) -> None:
        self._output = output
        self._rate = source.frames_per_second
        self._container = (
            av.open(str(output / f"{source.path.stem}.mp4"), "w") if source.frames_per_second is not None else None
        )
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> _Drawn:
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is not None:
            if self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()

    def add(self, frame: Frame, scene: Scene) -> None:
        if self._container is None:
            scene.draw(self._output / f"{frame.name}.jpg")
            ids = codecs.encode_panoptic_png(scene.panoptic.ids)
            (self._output / "panoptic" / f"{frame.name}.png").write_bytes(ids)
            return
        picture = scene.draw()
        # H.264 halves the colour planes, so both sides must be even.
        height, width = (side - side % 2 for side in picture.shape[:2])
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=round(self._rate or 25))
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._container.mux(
            self._stream.encode(av.VideoFrame.from_ndarray(picture[:height, :width].copy(), format="rgb24"))
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
