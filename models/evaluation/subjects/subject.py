"""What the evaluation needs of whatever it measures."""

from __future__ import annotations

from typing import Protocol, TypeVar

from models.datasets.sample import Sample
from models.evaluation.overlays import Picture
from models.evaluation.result import Findings

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

    def add(self, sample: Sample, answer: Answer) -> None:
        """Compare an answer with the truth. Called from one thread."""
        ...

    def findings(self) -> Findings:
        """What all samples together show."""
        ...

    def draw(self, sample: Sample, answer: Answer) -> tuple[Picture, Picture]:
        """The truth and the answer, each drawn over the picture."""
        ...
