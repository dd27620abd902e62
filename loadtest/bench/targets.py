"""What the benchmark has to show, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loadtest.bench.result import Result
from services.runtime.yaml_file import read_yaml

TARGETS = Path(__file__).parent / "targets.yaml"


class Target(BaseModel):
    """A claim about one figure, or about the worst of several; see the head of targets.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    claim: str
    part: str
    value: Annotated[tuple[str, ...], Field(min_length=1)]
    at_least: float | None = None
    at_most: float | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.claim}: expected one of at_least and at_most")
        return self

    @property
    def bound(self) -> str:
        """What is asked for, such as "≥ 0.9"."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def judge(self, results: Mapping[str, Result]) -> Verdict:
        """What the results, by part, say of it."""
        result = results.get(self.part)
        if result is None:
            return Verdict(self)
        found = {name: value for name in self.value if (value := result.findings.value(name)) is not None}
        if len(found) < len(self.value):
            return Verdict(self)
        name = min(found, key=found.__getitem__) if self.at_least is not None else max(found, key=found.__getitem__)
        worst = found[name]
        reached = worst >= self.at_least if self.at_least is not None else worst <= (self.at_most or 0)
        return Verdict(self, worst, result.findings.spread(name), reached)


@dataclass(frozen=True)
class Verdict:
    """Whether a target is reached. found: the figure; None where it was not measured. spread: from where to where the
    rounds put it; None where that is not known.
    """

    target: Target
    found: float | None = None
    spread: tuple[float, float] | None = None
    reached: bool = False

    @property
    def word(self) -> str:
        """In one word or two."""
        if self.found is None:
            return "not measured"
        return "reached" if self.reached else "short"

    @property
    def reason(self) -> str:
        """Why it falls short; empty where it does not."""
        return "" if self.found is None or self.reached else self.target.reason or "not looked into yet"


def read_targets(path: Path = TARGETS) -> list[Target]:
    """The targets of a file. Raises `ValueError` where it is malformed."""
    return [Target.model_validate(entry) for entry in read_yaml(path)]
