"""The main job on one machine: frames through the gateway, overlays and JSON out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import av
from perception import PerceptionClient, PerceptionError, Scene
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from services.stack.frames import Frame, Source
from services.stack.report import Record, frames_table, stages_table, to_record

_ROWS = 40


def perceive_sources(address: str, sources: Sequence[Source], output: Path, console: Console) -> bool:
    """Perceives every frame, writes what was seen into `output`, and prints tables about it.

    For each picture an overlay `<name>.jpg`, for a video one annotated `<name>.mp4`; and `scenes.jsonl`, a line for
    each frame. A frame that fails is named and the rest goes on; returns whether all were perceived.
    """
    output.mkdir(parents=True, exist_ok=True)
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
            with _Overlays(source, output) as overlays:
                for frame in source.frames(prefix):
                    try:
                        scene = client.perceive(frame.data)
                    except PerceptionError as error:
                        failed += 1
                        progress.console.print(f"[red]{frame.name}: {error.code.name}: {error}")
                        continue
                    finally:
                        progress.update(bar, advance=1, description=frame.name[-28:])
                    overlays.add(frame, scene)
                    records.append(to_record(frame.name, scene))
                    lines.write(json.dumps(records[-1]) + "\n")
    _print(records, failed, output, console)
    return failed == 0


class _Overlays:
    """Where the overlays of a source go: a file for each picture, or one video."""

    def __init__(self, source: Source, output: Path) -> None:
        self._output = output
        self._rate = source.frames_per_second
        self._container = (
            av.open(str(output / f"{source.path.stem}.mp4"), "w") if source.frames_per_second is not None else None
        )
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> _Overlays:
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is not None:
            if self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()

    def add(self, frame: Frame, scene: Scene) -> None:
        if self._container is None:
            scene.draw(self._output / f"{frame.name}.jpg")
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


def _print(records: list[Record], failed: int, output: Path, console: Console) -> None:
    console.print(frames_table(records[:_ROWS]))
    if len(records) > _ROWS:
        console.print(f"… and {len(records) - _ROWS} frames more in {output / 'scenes.jsonl'}")
    console.print(stages_table(records))
    console.print(f"{len(records)} scenes in {output}/, {failed} frames failed")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
