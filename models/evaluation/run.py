"""Runs a plan against services that are up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
from perception.caller import NOBODY, Caller

from models.catalog.schema import CATALOG
from models.datasets.sample import Dataset
from models.evaluation.datasets import open_dataset
from models.evaluation.overlays import side_by_side
from models.evaluation.plan import Plan, Step, expectations_of
from models.evaluation.result import Evaluation, judge
from models.evaluation.subjects import (
    ClassificationSubject,
    DetectionSubject,
    InstanceSegmentationSubject,
    SemanticSegmentationSubject,
    Subject,
    SystemSubject,
    TrackingSubject,
)

WORST_FRAMES = 10

Addresses = Mapping[str, Sequence[str]]
"""Where each subject of a plan answers, "host:port"; several models of one task are measured one after the other."""

Progress = Callable[[str, int, int], None]
"""Is told what is measured, how many of its frames are done, and how many there are."""

_SUBJECTS: dict[str, Callable[[str, Dataset, Caller], Subject[Any]]] = {
    "detection": DetectionSubject,
    "instance_segmentation": InstanceSegmentationSubject,
    "semantic_segmentation": SemanticSegmentationSubject,
    "classification": ClassificationSubject,
    "system": SystemSubject,
    "tracking": TrackingSubject,
}


def run_plan(
    plan: Plan,
    addresses: Addresses,
    output: Path,
    progress: Progress,
    *,
    caller: Caller = NOBODY,
    catalog: Path = CATALOG,
    datasets: Callable[[str], Dataset] = open_dataset,
) -> list[Evaluation]:
    """Measure those subjects of the plan that have an address, and draw the worst frames into `output/worst`.

    caller: how the services are shown who measures them.

    Raises:
        EvaluationError: a service does not answer, or not as its API promises.
        DatasetError: a data set is not there.
        CatalogError: a service names a catalogue entry that does not exist.
    """
    worst = output / "worst"
    worst.mkdir(parents=True, exist_ok=True)
    for stale in worst.glob("*.jpg"):
        stale.unlink()
    return [
        _measure(step, _SUBJECTS[step.subject](address, dataset, caller), dataset, worst, progress, catalog)
        for step in plan.steps
        if step.subject in addresses
        for dataset in [datasets(step.dataset)]
        for address in addresses[step.subject]
    ]


def _measure(
    step: Step, subject: Subject[Any], dataset: Dataset, worst: Path, progress: Progress, catalog: Path
) -> Evaluation:
    # Before the work, so that a wrong catalogue entry is known at once.
    expectations = expectations_of(step, subject.model, catalog)
    title = f"{step.subject} {subject.model}".strip()
    positions: dict[int, int] = {}
    progress(title, 0, len(dataset))
    for position, (sample, answer) in enumerate(subject.answers(dataset)):
        subject.add(sample, answer)
        positions[sample.image_id] = position
        progress(title, position + 1, len(dataset))
    findings = subject.findings()
    ranked = sorted(findings.frame_scores, key=lambda image_id: (findings.frame_scores[image_id], image_id))
    for rank, image_id in enumerate(ranked[:WORST_FRAMES], start=1):
        sample = dataset[positions[image_id]]
        truth, answer = subject.draw(sample, subject.ask(sample))
        caption = f"{title}, score {findings.frame_scores[image_id]:.2f}, {sample.file_name}"
        name = "-".join([*title.split(), f"{rank:02d}", Path(sample.file_name).with_suffix("").as_posix()])
        picture = cv2.cvtColor(side_by_side(truth, answer, caption), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(worst / f"{name.replace('/', '-')}.jpg"), picture)
    verdicts = judge(expectations, findings.metrics)
    return Evaluation(step.subject, subject.model, step.dataset, len(dataset), findings, verdicts)
