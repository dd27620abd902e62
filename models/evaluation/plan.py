"""What belongs to the evaluation of a profile: `plans/<profile>.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from models.catalog.schema import CATALOG, CatalogError, Strict, Task, load_entry, read_yaml, validated
from models.evaluation.result import Expectation

PLANS = Path(__file__).parent / "plans"

Whole = Literal["system", "tracking"]
"""What is measured of the whole system, through its gateway."""

Subject = Literal[Task, Whole]


class PlannedExpectation(Strict):
    """A metric of the whole system, within `tolerance` of `value` or better."""

    metric: str
    value: float
    tolerance: float = Field(ge=0)


class Step(Strict):
    """A subject to measure on a data set.

    subject: a task, measured alone in its engine, or of the whole, measured through the gateway, `system`, its scenes,
    or `tracking`, the identities over the frames of a stream. dataset: a name that `models.evaluation.datasets` knows.
    expectations: of the whole; those of a model stand in its catalogue entry.
    """

    subject: Subject
    dataset: str
    expectations: tuple[PlannedExpectation, ...] = ()

    @property
    def of_whole(self) -> bool:
        """Whether the whole system is measured, and not one model."""
        return self.subject in get_args(Whole)


class Plan(Strict):
    """The evaluation of a profile, step by step."""

    name: str
    steps: tuple[Step, ...] = Field(min_length=1)


def load_plan(profile: str, plans: Path = PLANS) -> Plan:
    """Return the plan of a profile.

    Raises:
        CatalogError: there is none, or it is wrong; names file and key.
    """
    path = plans / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in plans.glob("*.yaml")))
        raise CatalogError(f"expected a profile with an evaluation plan, one of {known}; found {profile!r}")
    plan = validated(Plan, read_yaml(path), path)
    for number, step in enumerate(plan.steps):
        if step.expectations and not step.of_whole:
            raise CatalogError(f"{path}: steps.{number}: expectations of a model belong into its catalogue entry")
    return plan


def expectations_of(step: Step, model: str, catalog: Path = CATALOG) -> tuple[Expectation, ...]:
    """What is expected of a step's subject; model: the catalogue entry that answers, empty for the whole.

    Raises:
        CatalogError: the catalogue has no such entry.
    """
    if step.of_whole:
        return tuple(Expectation(each.metric, each.value, each.tolerance) for each in step.expectations)
    return tuple(
        Expectation(each.metric, each.value, each.tolerance)
        for each in load_entry(model, catalog).metrics
        if each.dataset == step.dataset
    )
