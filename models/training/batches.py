"""Which examples a step sees, as a pure function of the run's seed and the step.

Nothing about the order of the data or the augmentation has to be saved: a run that is resumed at step s continues
with the very batch that it would have seen.
"""

import signal
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from models.training.tasks.task import Batch, Task


def step_indices(step: int, batch_size: int, examples: int, seed: int) -> NDArray[np.int64]:
    """Return the indices of a step's examples; every epoch is a new permutation of all of them."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, examples)
    order = {epoch: np.random.default_rng([seed, epoch]).permutation(examples) for epoch in set(epochs.tolist())}
    return np.array([order[epoch][offset] for epoch, offset in zip(epochs.tolist(), offsets, strict=True)])


def seed_step(seed: int, step: int) -> None:
    """Seed torch's global generator, which augmentation, dropout and samplers draw from, for one step."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1))


class StepBatches(Dataset[Batch]):
    """The batch of every step of a run."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __len__(self) -> int:
        return self.task.config.steps

    def __getitem__(self, step: int) -> Batch:
        config = self.task.config
        seed_step(config.seed, step)
        return self.task.batch(step_indices(step, config.batch_size, len(self.task), config.seed))


def batches_from(task: Task, first_step: int, workers: int) -> Iterator[Batch]:
    """Return the batches of `first_step` and all later ones, prepared ahead of time by worker processes."""
    loader = DataLoader(
        StepBatches(task),
        batch_size=None,
        sampler=range(first_step, task.config.steps),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_signals_to_parent,
    )
    return iter(loader)


def _leave_signals_to_parent(_worker: int) -> None:
    # A terminal's Ctrl-C reaches the whole process group; the training process stops the workers when it is done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
