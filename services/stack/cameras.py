"""A profile's cameras: what the agent is told of them, and a look at them for some seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from services.stack.layout import PROJECT, Ports, camera_command
from services.stack.supervisor import StackError

FRAMES_PER_SECOND = 12.5
# A laptop without a GPU takes its time; a frame that is late is still worth being looked at there.
_STREAM = {"deadline_seconds": 5.0, "max_in_flight": 1}
_POLL_SECONDS = 0.1


def write_agent_file(path: Path, sources: Mapping[str, str], ports: Ports, films: Path | None = None) -> Path:
    """Writes what a camera agent is told: every source looped, as a camera that never ends.

    films: a folder for what each camera has seen, as an annotated film `<camera>.mp4` and as `<camera>.jsonl`.
    """

    def sinks(name: str) -> list[dict[str, str]]:
        if films is None:
            return []
        folder = films.resolve()
        return [
            {"kind": "annotated_video", "path": str(folder / f"{name}.mp4")},
            {"kind": "jsonl", "path": str(folder / f"{name}.jsonl")},
        ]

    content = {
        "gateway": f"127.0.0.1:{ports.gateway}",
        "host": "127.0.0.1",
        "port": ports.camera,
        "metrics_port": ports.metrics("camera"),
        "cameras": [
            {
                "name": name,
                "source": source,
                "loop": True,
                "frames_per_second": FRAMES_PER_SECOND,
                "stream": dict(_STREAM),
                "sinks": sinks(name),
            }
            for name, source in sources.items()
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def watch_live(sources: Mapping[str, str], seconds: float, ports: Ports, output: Path, console: Console) -> Table:
    """Lets cameras stream into the running system for so long; returns a table of what became of their frames.

    Leaves the agent's file, an annotated film and a line for each answer in `output`. Raises `StackError` where a
    source gives no frame or the agent fails, with what it said.
    """
    output.mkdir(parents=True, exist_ok=True)
    for name in sources:
        (output / f"{name}.jsonl").unlink(missing_ok=True)  # the agent adds to it
    agent_file = write_agent_file(output / "cameras.yaml", sources, ports, films=output)
    # Films of scenes are made here, before the clock runs.
    check = [sys.executable, "-m", "services.cli", "camera", "check", str(agent_file)]
    with console.status(f"opening {len(sources)} cameras (the first time, films of the scenes are made)"):
        checked = subprocess.run(check, cwd=PROJECT, check=False, capture_output=True, text=True)
    if checked.returncode:
        raise StackError(f"the cameras cannot be opened:\n{checked.stdout}{checked.stderr}")
    _run_for(seconds, agent_file, output / "cameras.log", console)
    return _cameras_table(list(sources), seconds, output)


def _run_for(seconds: float, agent_file: Path, log: Path, console: Console) -> None:
    command = camera_command(agent_file, "--seconds", str(seconds))
    progress = Progress(TextColumn("{task.description}"), BarColumn(), console=console, transient=True)
    with progress, log.open("wb") as file:
        task = progress.add_task("cameras stream", total=seconds)
        started = time.monotonic()
        with subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        ) as agent:
            try:
                while agent.poll() is None:
                    time.sleep(_POLL_SECONDS)
                    progress.update(task, completed=time.monotonic() - started)
            except KeyboardInterrupt:
                agent.terminate()
                raise
    if agent.returncode:
        raise StackError(f"the camera agent ended with status {agent.returncode}: {log}")


def _cameras_table(names: list[str], seconds: float, output: Path) -> Table:
    caption = f"age: median time from a frame's capture to its answer; films in {output}/"
    table = Table(title=f"Live cameras, {seconds:g} s", caption=caption)
    table.add_column("camera")
    for column in ("sent", "perceived", "dropped", "failed", "scenes/s", "age ms", "tracks"):
        table.add_column(column, justify="right")
    for name in names:
        answers = [json.loads(line) for line in (output / f"{name}.jsonl").read_text().splitlines()]
        scenes = [answer for answer in answers if answer["result"] == "scene"]
        dropped = sum(answer["result"] == "dropped" for answer in answers)
        tracks = {
            (answer["epoch"], segment["track"]["id"])
            for answer in scenes
            for segment in answer["segments"]
            if "track" in segment
        }
        age = f"{median(answer['age_seconds'] for answer in scenes) * 1000:.0f}" if scenes else "-"
        counts = (len(answers), len(scenes), dropped, len(answers) - len(scenes) - dropped)
        rate = f"{len(scenes) / seconds:.1f}"
        table.add_row(name, *map(str, counts), rate, age, str(len(tracks)))
    return table
