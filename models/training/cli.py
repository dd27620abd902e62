"""The training command: one model a run, `python -m models.training --model NAME`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models.training.config import ConfigError, available_runs, load_config

app = typer.Typer(add_completion=False)
console = Console()


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
    """Train a model, validating as it goes. SIGINT and SIGTERM stop it with a checkpoint, from which it resumes."""
    import torch

    from models.training.frame_cache import cached_frames
    from models.training.loop import Trainer
    from models.training.tasks import build_task

    try:
        config = load_config(model)
        frames = {split: cached_frames(config.dataset, split) for split in ("train", "validation")}
        task = build_task(config, **frames)
        found = (
            torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
        )
        trainer = Trainer(config, task, runs / config.name, found, resume=resume, workers=workers)
    except (ConfigError, FileNotFoundError) as error:
        console.print(f"[red]error:[/red] {error}")
        raise typer.Exit(2) from error
    console.print(f"{config.name}: steps {trainer.step} to {config.steps} on {found}, records in {trainer.folder}")
    trainer.run(console)
