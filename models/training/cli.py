"""The training command: one model a run, `python -m models.training --model NAME`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models.training.config import ConfigError, RunConfig, available_runs, load_config

app = typer.Typer(add_completion=False)
console = Console()

INTERRUPTED = 130


@app.command()
def train(
    model: Annotated[
        str, typer.Option(help=f"The run: {', '.join(available_runs())}, or the path of a YAML file of your own.")
    ],
    resume: Annotated[
        bool, typer.Option(help="Continue from the last checkpoint of this run, if there is one, or begin anew.")
    ] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    runs: Annotated[Path, typer.Option(help="Folder of all runs; this one writes to the folder of its name.")] = Path(
        "runs"
    ),
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches while the model trains.")] = 1,
) -> None:
    """Train a model, validating as it goes. SIGINT and SIGTERM stop it with a checkpoint, from which it resumes.

    A run that begins with the weights of another one has that one trained first, where it is not.
    """
    try:
        for config in _with_earlier_runs(load_config(model), runs):
            _train(config, runs, device, resume=resume, workers=workers)
    except (ConfigError, FileNotFoundError) as error:
        console.print(f"[red]error:[/red] {error}")
        raise typer.Exit(2) from error


def _with_earlier_runs(config: RunConfig, runs: Path) -> list[RunConfig]:
    """The run, after all those it builds on that have not been trained to their end."""
    if config.initial_weights is None:
        return [config]
    earlier = load_config(config.initial_weights.run)
    return [config] if _is_trained(earlier, runs) else [*_with_earlier_runs(earlier, runs), config]


def _is_trained(config: RunConfig, runs: Path) -> bool:
    from models.architectures.trained import load_trained

    path = runs / config.name / "model.pt"
    return path.is_file() and load_trained(path).step == config.steps


def _train(config: RunConfig, runs: Path, device: str, *, resume: bool, workers: int) -> None:
    import torch

    from models.training.frame_cache import cached_frames
    from models.training.loop import Trainer
    from models.training.tasks import build_task

    frames = {split: cached_frames(config.dataset, split) for split in ("train", "validation")}
    task = build_task(config, **frames)
    found = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    trainer = Trainer(config, task, runs / config.name, found, resume=resume, workers=workers)
    console.print(f"{config.name}: steps {trainer.step} to {config.steps} on {found}, records in {trainer.folder}")
    trainer.run(console)
    if trainer.stopping:
        raise typer.Exit(INTERRUPTED)
