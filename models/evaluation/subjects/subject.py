"""What the evaluation needs of whatever it measures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from models.datasets.sample import Dataset, Sample
from models.evaluation.overlays import Picture
from models.evaluation.result import Findings

IN_FLIGHT = 4
"""Requests on their way at once."""

Answer = TypeVar("Answer")


class Subject(Protocol[Answer]):
    """A service that answers for pictures, and the scorer that collects how well."""

    @property
    def model(self) -> str:
        """Catalogue entry of the model that answers; empty for the whole system."""
        ...

    def ask(self, sample: Sample) -> Answer:
        """Send the sample's picture. Called from several threads. Raises `EvaluationError` where no answer comes."""
        ...

    def answers(self, dataset: Dataset) -> Iterator[tuple[Sample, Answer]]:
        """All samples in their order with their answers, some requests ahead."""
        waiting: deque[tuple[Sample, Future[Answer]]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for index in range(len(dataset)):
                sample = dataset[index]
                waiting.append((sample, pool.submit(self.ask, sample)))
                if len(waiting) > IN_FLIGHT:
                    first, answer = waiting.popleft()
                    yield first, answer.result()
            for first, answer in waiting:
                yield first, answer.result()

    def add(self, sample: Sample, answer: Answer) -> None:
        """Compare an answer with the truth. Called from one thread."""
        ...

    def findings(self) -> Findings:
        """What all samples together show. Raises `EvaluationError` where they were not all answered."""
        ...

    def draw(self, sample: Sample, answer: Answer) -> tuple[Picture, Picture]:
        """The truth and the answer, each drawn over the picture."""
        ...
