"""The training loop that all models share: averaged weights, validation, checkpoints, and exact resumption."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.architectures.trained import TrainedModel, build_model, load_trained, save_trained
from models.training.batches import batches_from, seed_step
from models.training.config import ConfigError, RunConfig
from models.training.record import RunRecord
from models.training.tasks.task import Batch, Task

POLYNOMIAL_POWER = 0.9  # the schedule of DeepLab and BiSeNet
LOG_EVERY = 20
CHECKPOINT_EVERY_SECONDS = 120


class Trainer:
    """Trains one model; `run` returns when the last step is made or after the step during which `stop` is called.

    Args:
        config: the run.
        task: its data, loss and validation.
        folder: where checkpoints and records go, `runs/<name>`.
        device: where to train.
        resume: continue from the folder's checkpoint if there is one; otherwise begin anew and overwrite it.
        workers: processes that prepare batches; with 0 the training process does.

    Raises:
        ConfigError: the folder's checkpoint is of another configuration, or the initial weights do not fit.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        folder: Path,
        device: torch.device,
        *,
        resume: bool = True,
        workers: int = 1,
    ) -> None:
        self.config, self.task, self.folder, self.device, self.workers = config, task, folder, device, workers
        torch.manual_seed(config.seed)
        model = build_model(config.architecture.name, len(task.labels), config.architecture.options)
        _set_initial_weights(model, config, folder.parent)
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.average = AveragedModel(self.model, multi_avg_fn=_moving_average(config.ema_decay), use_buffers=True)
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.model, config.weight_decay), lr=config.learning_rate)
        self.schedule = LambdaLR(self.optimizer, lambda step: learning_rate_factor(step, config))
        self.step = 0
        self.stopping = False
        self.record = RunRecord(folder, config, task.headline)
        if resume and self.checkpoint.is_file():
            self._restore()
        self.record.begin(self.step)

    @property
    def checkpoint(self) -> Path:
        """The file from which a run is resumed."""
        return self.folder / "last.pt"

    def stop(self) -> None:
        """End `run` after the current step, with a checkpoint."""
        self.stopping = True

    def run(self, console: Console) -> dict[str, float]:
        """Train, validate, save; return the last validation's metrics (empty when stopped before the first)."""
        metrics: dict[str, float] = {}
        progress = Progress(
            TextColumn(f"[bold]{self.config.name}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=console,
        )
        with progress, _stop_on_signals(self.stop):
            bar = progress.add_task("", total=self.config.steps, completed=self.step, state="")
            saved = time.monotonic()
            for batch in batches_from(self.task, self.step, self.workers):
                loss = self._train_step(batch)
                if self.step % LOG_EVERY == 0:
                    self.record.loss(self.step, loss.item(), self.schedule.get_last_lr()[0])
                    progress.update(bar, completed=self.step, state=f"loss {loss.item():.3f}")
                last = self.step == self.config.steps
                if self.step % self.config.validate_every == 0 or last:
                    metrics = self._validate()
                    console.print(
                        f"{self.config.name} step {self.step}: {self.task.headline} {self._headline(metrics)}"
                    )
                if self.stopping or last or time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS:
                    self._save()
                    saved = time.monotonic()
                if self.stopping:
                    break
        return metrics

    def _train_step(self, batch: Batch) -> Tensor:
        batch = _to_device(batch, self.device)
        seed_step(self.config.seed, self.step)
        with self._autocast():
            loss = self.task.loss(self.model, batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{self.config.name}: expected a finite loss, found {loss.item()} at {self.step}")
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def _validate(self) -> dict[str, float]:
        averaged = self.average.module.eval()
        with torch.inference_mode(), self._autocast():
            metrics = self.task.validate(averaged)
        self.record.validation(self.step, metrics)
        self._save_trained(averaged, metrics)
        return metrics

    def _headline(self, metrics: dict[str, float]) -> str:
        return f"{metrics[self.task.headline]:.4f}"

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _save_trained(self, averaged: nn.Module, metrics: dict[str, float]) -> None:
        trained = TrainedModel(
            model=averaged,
            architecture=self.config.architecture.name,
            options=self.config.architecture.options,
            labels=self.task.labels,
            input_size=self.task.input_size,
            mean=self.task.mean,
            std=self.task.std,
            run=self.config.name,
            step=self.step,
            metrics=metrics,
        )
        save_trained(trained, self.folder / "model.pt")

    def _save(self) -> None:
        self.record.save()
        state = {
            "config": self.config.model_dump_json(),
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        unfinished = self.checkpoint.with_suffix(".tmp")
        torch.save(state, unfinished)
        unfinished.replace(self.checkpoint)

    def _restore(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        saved = RunConfig.model_validate_json(state["config"])
        different = [name for name in RunConfig.model_fields if getattr(saved, name) != getattr(self.config, name)]
        if different:
            raise ConfigError(
                f"{self.checkpoint} is a checkpoint of another configuration: {', '.join(different)} differ; "
                "begin anew with --no-resume or choose another folder"
            )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def learning_rate_factor(step: int, config: RunConfig) -> float:
    """Return by what the learning rate is multiplied: a linear warm-up, then a polynomial decay to zero."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return warmup * max(0.0, 1 - step / config.steps) ** POLYNOMIAL_POWER


def _moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """Average weights exponentially, with a shorter memory at first so that the random start is soon forgotten."""

    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, updates)

    return update


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Keep weight decay away from biases and normalisation."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _set_initial_weights(model: nn.Module, config: RunConfig, runs: Path) -> None:
    """Copy the parameters that a run's configuration takes from an earlier run."""
    initial = config.initial_weights
    if initial is None:
        return
    path = runs / initial.run / "model.pt"
    if not path.is_file():
        raise ConfigError(f"{config.name} begins with weights of run {initial.run!r}, but there is no {path}")
    expected = {name for name in model.state_dict() if name.startswith(initial.target)}
    source = {
        initial.target + name.removeprefix(initial.prefix): tensor
        for name, tensor in load_trained(path).model.state_dict().items()
        if name.startswith(initial.prefix)
    }
    found = expected & set(source)
    if not expected or found != expected:
        raise ConfigError(
            f"expected {path} to hold the {len(expected)} parameters of {initial.target!r} under {initial.prefix!r}, "
            f"found {len(found)} of them"
        )
    source = {name: source[name] for name in found}
    model.load_state_dict(source, strict=False)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch, wherever they are in its lists and mappings."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: _to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_to_device(value, device) for value in batch)
    return batch


@contextmanager
def _stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end training with a checkpoint; a second one acts as usual."""
    previous: dict[int, Any] = {}

    def handle(number: int, _frame: object) -> None:
        stop()
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
