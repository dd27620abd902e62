"""Bringing a whole stack up: the models, the engine, the ports, the processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from perception.caller import VARIABLES
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.runtime.yaml_file import read_yaml
from services.stack.cameras import write_agent_file
from services.stack.layout import PROJECT, EngineKind, Ports, processes, tasks_in, triton_environment, watching
from services.stack.supervisor import StackError, Supervisor, interruptible, require_free
from services.stack.triton import triton_runs_here

Engine = Literal["auto", "triton", "onnxruntime"]


@dataclass(frozen=True)
class StackOptions:
    """What to run: a profile's models behind which engine, on the ports from `port_base` on, with its live cameras."""

    profile: str
    engine: Engine
    port_base: int
    with_cameras: bool = True

    @property
    def run_directory(self) -> Path:
        """Where this stack keeps its logs and Triton's backends."""
        return PROJECT / ".cache" / "stack" / str(self.port_base)

    @property
    def taxonomy(self) -> str:
        """The gateway's categories: those that the profile names, or the ones called as the profile."""
        return str(self._description.get("taxonomy") or self.profile)

    @property
    def backend(self) -> str:
        """Triton's backend for the profile's models."""
        return str(self._description.get("backend", "onnxruntime"))

    @property
    def cameras(self) -> dict[str, str]:
        """Sources of the cameras that show the profile live, by name: scenes, or films below PERCEPTION_DATA.

        Raises `StackError` where PERCEPTION_DATA is needed and not set.
        """
        if not self.with_cameras:
            return {}
        sources: dict[str, str] = self._description.get("cameras", {})
        films = {name: source for name, source in sources.items() if not source.startswith("scenes:")}
        data = os.environ.get("PERCEPTION_DATA")
        if films and not data:
            raise StackError(f"the cameras of profile {self.profile!r} play films in PERCEPTION_DATA, which is not set")
        return sources | {name: f"{data}/{film}" for name, film in films.items()}

    @property
    def repository(self) -> Path:
        """The profile's model repository."""
        return PROJECT / "models" / "repository" / self.profile

    @cached_property
    def _description(self) -> dict[str, Any]:
        description: dict[str, Any] = read_yaml(PROJECT / "models" / "profiles" / f"{self.profile}.yaml")
        return description


@contextmanager
def running(options: StackOptions, console: Console, *, watched: bool = False) -> Iterator[Supervisor]:
    """A stack that serves; whatever way the block ends, nothing of it is left running.

    `watched`: with the profile's cameras and the page that shows them. Raises `StackError` where it cannot start.
    """
    ports = Ports(options.port_base)
    require_free(ports.all())
    engine = choose_engine(options, console)
    build_models(options)
    verify_models(options.repository)
    specs = processes(options.repository, options.taxonomy, engine, ports, options.run_directory)
    if watched:
        cameras = options.cameras
        agent_file = options.run_directory / "cameras.yaml"
        specs += watching(ports, write_agent_file(agent_file, cameras, ports) if cameras else None)
    with interruptible(), Supervisor(specs, options.run_directory / "logs") as supervisor:
        with _progress(console) as progress:
            task = progress.add_task("starting", total=len(specs))

            def report(name: str) -> None:
                progress.update(task, advance=1, description=f"{name} serves")

            supervisor.start(report)
        yield supervisor


def build_models(options: StackOptions) -> None:
    """Builds the profile's model repository where it is not up to date. Raises `StackError` where that fails.

    A process of its own: models/ and its dependencies are no part of the services.
    """
    command = [sys.executable, "-m", "models", "build", options.profile, "--output", str(options.repository)]
    built = subprocess.run(command, cwd=PROJECT, check=False)
    if built.returncode != 0:
        raise StackError(f"the models of profile {options.profile!r} could not be built (see above)")


def verify_models(repository: Path) -> None:
    """Checks a model repository by its digests. Raises `StackError`, after the names of what is wrong."""
    command = [sys.executable, "-m", "models", "verify", str(repository)]
    if subprocess.run(command, cwd=PROJECT, check=False, stdout=subprocess.DEVNULL).returncode != 0:
        raise StackError(f"{repository} does not hold the models that were built (see above): they are not loaded")


def samples(profile: str, folder: Path) -> list[Path]:
    """The profile's sample pictures and videos; those that are made on the spot go into `folder`.

    Raises `StackError` where there are none.
    """
    command = [sys.executable, "-m", "models", "samples", profile, "--output", str(folder)]
    listed = subprocess.run(command, cwd=PROJECT, check=False, stdout=subprocess.PIPE, text=True)
    if listed.returncode != 0:
        raise StackError(f"profile {profile!r} has no samples here (see above); name a picture with SOURCE=…")
    return [Path(line) for line in listed.stdout.splitlines()]


def measure(stacks: Sequence[StackOptions], output: Path) -> int:
    """Evaluates running stacks on the plan of the first one's profile; the exit status of `perception models evaluate`.

    Measured are the first as a whole, and the models of all.
    """
    addresses = [
        f"--task={task}=127.0.0.1:{Ports(options.port_base).task(task)}"
        for options in stacks
        for task in tasks_in(options.repository)
    ]
    gateway = f"--gateway=127.0.0.1:{Ports(stacks[0].port_base).gateway}"
    command = [sys.executable, "-m", "models", "evaluate", stacks[0].profile, gateway, *addresses]
    # The stack talks in plain text, whomever else the user shows certificates.
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run([*command, "--output", str(output.resolve())], cwd=PROJECT, env=env, check=False).returncode


def quality(truth: Path, output: Path) -> dict[str, Any]:
    """Panoptic quality of a run's scenes against the truth of its made samples, see `models.evaluation.score`."""
    command = [sys.executable, "-m", "models", "score", str(truth), str(output.resolve())]
    scored = subprocess.run(command, cwd=PROJECT, check=False, stdout=subprocess.PIPE, text=True)
    if scored.returncode != 0:
        raise StackError("the run could not be scored against the truth of its samples (see above)")
    answer: dict[str, Any] = json.loads(scored.stdout)
    return answer


def choose_engine(options: StackOptions, console: Console) -> EngineKind:
    """Where the models run; says so where that is not what was asked for or what the profile names.

    Raises `StackError` where Triton is asked for and does not run here.
    """
    if options.engine != "onnxruntime":
        usable, reason = triton_runs_here(triton_environment())
        if usable:
            return "triton"
        if options.engine == "triton":
            raise StackError(f"ENGINE=triton: {reason}")
        console.print(f"[yellow]Triton does not run here ({reason}); the services run the models themselves.")
    if options.backend != "onnxruntime":
        console.print(
            f"[yellow]Profile {options.profile} is made for Triton's backend {options.backend}; "
            "the services run its models with ONNX Runtime instead, in float32."
        )
    return "onnxruntime"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
