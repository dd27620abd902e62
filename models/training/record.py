"""What a run leaves beside its weights: `metrics.jsonl`, `curve.png` and `summary.json`."""

import json
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from models.training.config import RunConfig


class RunRecord:
    """Writes a run's measurements as they come, and what they add up to whenever it is saved.

    Args:
        folder: the run's folder.
        config: the run.
        headline: the validation metric that the curve shows.
    """

    def __init__(self, folder: Path, config: RunConfig, headline: str) -> None:
        self.folder, self.config, self.headline = folder, config, headline
        self.lines: list[dict[str, float]] = []
        self.seconds_before = 0.0

    def begin(self, step: int) -> None:
        """Start at `step`; lines of an earlier attempt that lie beyond it will be measured again and are dropped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if step and self._metrics_file.is_file():
            lines = (json.loads(line) for line in self._metrics_file.read_text().splitlines())
            self.lines = [line for line in lines if line["step"] <= step]
            self.seconds_before = self.lines[-1]["seconds"] if self.lines else 0.0
        self._metrics_file.write_text("".join(f"{json.dumps(line)}\n" for line in self.lines))
        self.started = time.monotonic()

    def loss(self, step: int, loss: float, learning_rate: float) -> None:
        """Note the loss of a step."""
        self._append({"step": step, "loss": round(loss, 5), "learning_rate": learning_rate})

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """Note a validation."""
        self._append({"step": step, **{name: round(value, 5) for name, value in metrics.items()}})

    def save(self) -> None:
        """Write `summary.json` and `curve.png`."""
        validations = [line for line in self.lines if self.headline in line]
        summary = {
            "run": self.config.name,
            "command": f"python -m models.training --model {self.config.name}",
            "arguments": sys.argv[1:],
            "seed": self.config.seed,
            "config": self.config.model_dump(mode="json"),
            "steps": self.lines[-1]["step"] if self.lines else 0,
            "wall_seconds": round(self._seconds()),
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "threads": torch.get_num_threads(),
                "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                "torch": torch.__version__,
            },
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "metrics": validations[-1] if validations else {},
        }
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=2))
        self._draw(validations)

    @property
    def _metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _append(self, line: dict[str, float]) -> None:
        line["seconds"] = round(self._seconds(), 1)
        self.lines.append(line)
        with self._metrics_file.open("a") as file:
            file.write(f"{json.dumps(line)}\n")

    def _draw(self, validations: list[dict[str, float]]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        losses = [line for line in self.lines if "loss" in line]
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        left = figure.add_subplot(xlabel="step", ylabel="training loss", title=self.config.name)
        left.plot([line["step"] for line in losses], [line["loss"] for line in losses], color="tab:grey", linewidth=0.8)
        right = left.twinx()
        right.set(ylabel=f"validation {self.headline}", ylim=(0, 1))
        right.plot(
            [line["step"] for line in validations], [line[self.headline] for line in validations], "o-", markersize=3
        )
        figure.savefig(self.folder / "curve.png", dpi=110)
