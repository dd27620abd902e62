"""Commands for data sets."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from models.datasets.sample import Sample
from models.datasets.scenes import SceneSequence
from models.datasets.scenes.export import export_coco, export_film

app = typer.Typer(no_args_is_help=True, help="Make and look at data sets.")


class World(StrEnum):
    """The worlds of the procedural camera."""

    STREET = "street"
    LINE = "line"


@app.callback()
def datasets() -> None:
    """Make and look at data sets."""


@app.command()
def scenes(
    output: Annotated[Path, typer.Argument(help="An .mp4 file for a film, else a folder for frames and COCO labels.")],
    world: Annotated[World, typer.Option(help="What the procedural camera looks at.")] = World.STREET,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first sequence.")] = 0,
    sequences: Annotated[int, typer.Option(min=1, help="Number of sequences, seeds counting up; a film has one.")] = 1,
    length: Annotated[int, typer.Option(min=1, help="Frames of a sequence, 25 of which are a second.")] = 250,
    width: Annotated[int, typer.Option(min=64, help="Width of a frame in pixels.")] = 640,
    height: Annotated[int, typer.Option(min=64, help="Height of a frame in pixels.")] = 480,
) -> None:
    """Write procedural scenes: a film, or JPEG frames with COCO panoptic, instance and video labels.

    The same world, seed, length and size always give the same frames.
    """
    size = (width, height)
    samples: Iterable[Sample]
    if output.suffix == ".mp4":
        if sequences > 1:
            raise typer.BadParameter(f"expected one sequence for a film, found {sequences}", param_hint="--sequences")
        if width % 2 or height % 2:
            raise typer.BadParameter(f"expected even sides for a film, found {width} x {height}", param_hint="--width")
        samples = export_film(SceneSequence(world.value, seed, length, size), output)
    else:
        seeds = range(seed, seed + sequences)
        samples = export_coco((SceneSequence(world.value, one, length, size) for one in seeds), output)
    for _ in track(samples, description=f"{world.value} scenes", total=sequences * length):
        pass
    typer.echo(f"{sequences * length} frames in {output}")


if __name__ == "__main__":
    app()
