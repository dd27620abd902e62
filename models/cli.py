"""The model commands: what the catalogue offers, weights, export, and the repository that Triton serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from models.catalog.schema import Entry, Task, load_entries, load_entry, load_profile
from models.evaluation.command import evaluate

app = typer.Typer(
    help="Models: what the catalogue offers, and what Triton serves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
REPOSITORY = Path(__file__).parent / "repository"

console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

EntryName = Annotated[str, typer.Argument(help="An entry of the catalogue; `list` shows them.")]
MayDownload = Annotated[bool, typer.Option("--download", help="Fetch weights that no folder has from upstream.")]


app.command()(evaluate)


@app.command(name="list")
def list_entries() -> None:
    """Show every model of the catalogue, and whether its weights are here."""
    table = Table(Column("entry", no_wrap=True), "task", "input", "licence", "weights", "accuracy", box=SIMPLE_HEAD)
    with _readable_errors():
        for entry in load_entries():
            metrics = ", ".join(f"{metric.metric} {metric.value:g}" for metric in entry.metrics)
            table.add_row(entry.name, entry.task, _input(entry), entry.licence, _whereabouts(entry), metrics)
    console.print(table)


@app.command()
def build(
    profile: Annotated[str, typer.Argument(help="A profile of models/profiles, such as street.")],
    output: Annotated[Path | None, typer.Option(help="The repository's folder; models/repository/<profile>.")] = None,
    download: MayDownload = False,
) -> None:
    """Write the model repository of a profile; models that are up to date are left alone."""
    from models.export.repository import build_repository

    with _readable_errors(), _progress(f"building {profile}") as show:
        names = load_profile(profile).tasks
        destination = output or REPOSITORY / profile

        def report(task: str, name: str, is_new: bool) -> None:
            console.print(f"{task}: {name} {'written' if is_new else 'is up to date'}")

        build_repository(profile, destination, download=download, progress=show, report=report)
    console.print(f"{len(names)} models in {destination}")


@app.command()
def verify(
    repository: Annotated[str, typer.Argument(help="A profile of models/profiles, or a repository's folder.")],
) -> None:
    """Check every file of a model repository by its SHA-256, and its weights against the catalogue."""
    from models.export.manifest import verify_repository

    folder = Path(repository) if Path(repository).is_dir() else REPOSITORY / repository
    with _readable_errors(), _progress(f"verifying {folder}"):
        names = verify_repository(folder)
    console.print(f"{folder}: {', '.join(names)} are as they were built, of the catalogue's weights", soft_wrap=True)


@app.command()
def export(
    entry: EntryName,
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    weights: Annotated[Path | None, typer.Option(help="Take these weights, whatever their digest.")] = None,
    download: MayDownload = False,
) -> None:
    """Write one entry's contract graph to a file."""
    from models.export.build import build_model
    from models.export.repository import replace_file
    from models.export.weights import file_sha256, resolve_weights

    with _readable_errors(), _progress(f"exporting {entry}") as show:
        loaded = load_entry(entry)
        path = weights or resolve_weights(loaded.source, may_download=download, progress=show)
        replace_file(output, build_model(loaded, path).SerializeToString())
    console.print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, SHA-256 {file_sha256(output)}")


@app.command()
def fetch(entry: EntryName) -> None:
    """Find an entry's weights, or fetch them from upstream, and check their digest."""
    from models.export.weights import resolve_weights

    with _readable_errors(), _progress(f"fetching {entry}") as show:
        path = resolve_weights(load_entry(entry).source, may_download=True, progress=show)
    console.print(str(path), soft_wrap=True)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="An ONNX file.", exists=True, dir_okay=False)],
    task: Annotated[Task, typer.Option(help="The task it is to serve.")],
) -> None:
    """Check that a graph keeps to the contract of a task."""
    from models.export.contract import check_contract

    with _readable_errors():
        check_contract(file, task)
    console.print(f"{file} keeps to the contract of {task}")


@app.command()
def samples(
    profile: Annotated[str, typer.Argument(help="A profile of models/profiles, such as street.")],
    output: Annotated[Path, typer.Option(help="Where samples that are made on the spot go.")],
) -> None:
    """List the pictures, folders and videos that show what a profile does, a path on each line."""
    from models.samples import sample_sources

    with _readable_errors(), _progress(f"looking for samples of {profile}"):
        for path in sample_sources(load_profile(profile), output):
            typer.echo(path)


@app.command()
def score(
    truth: Annotated[Path, typer.Argument(help="Frames with COCO panoptic truth, as `samples` writes them.")],
    run: Annotated[Path, typer.Argument(help="What `perception run` wrote for these frames.")],
) -> None:
    """Judge a run by panoptic quality against the truth of its frames, as JSON."""
    from models.evaluation.score import score_run

    with _readable_errors(), _progress("scoring"):
        typer.echo(json.dumps(score_run(truth, run)))


def _whereabouts(entry: Entry) -> str:
    from models.export.weights import WeightsError, WrongDigestError, resolve_weights

    try:
        resolve_weights(entry.source)
    except WrongDigestError:
        return "[red]wrong SHA-256[/]"
    except WeightsError:
        return "to download" if entry.source.url and entry.source.digest else "bring your own"
    return "[green]here[/]"


def _input(entry: Entry) -> str:
    image = entry.image
    if image.resize == "shortest_edge":
        return f"{image.shortest_edge}..{image.longest_edge}"
    return f"{image.width}x{image.height} {image.resize}"


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Show what went wrong with the user's input and files as a sentence; everything else keeps its trace."""
    try:
        from onnx.checker import ValidationError
    except ModuleNotFoundError as error:
        raise _exit("the model commands need the package onnx: pip install 'perception-services[local]'") from error
    from models.export.build import MissingPackageError
    from models.export.download import DownloadError
    from models.export.weights import WeightsError

    try:
        yield
    except (ValueError, MissingPackageError, DownloadError, WeightsError, ValidationError, OSError) as error:
        raise _exit(str(error)) from error


def _exit(message: str) -> typer.Exit:
    errors.print(Text.assemble(("error: ", "red"), message), soft_wrap=True)
    return typer.Exit(1)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show that something goes on, and how far a download is."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        waiting = progress.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            progress.update(waiting, completed=done, total=total or None)

        yield show
