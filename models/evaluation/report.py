"""The results as files and as a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from models.evaluation.plots import write_confusion, write_precision_recall, write_tracks
from models.evaluation.result import Evaluation

METRICS, REPORT = "metrics.json", "report.md"
CONFUSION, PRECISION_RECALL, TRACKS = "confusion.png", "precision_recall.png", "tracks.png"


def clear_report(folder: Path) -> None:
    """Remove what an earlier run wrote, so that one that fails leaves no results that look like its own."""
    for name in (METRICS, REPORT, CONFUSION, PRECISION_RECALL, TRACKS):
        (folder / name).unlink(missing_ok=True)


def write_report(profile: str, evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Write `metrics.json`, `report.md`, and those plots for which there is something to draw."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / METRICS).write_text(json.dumps(_as_json(profile, evaluations), indent=2) + "\n", encoding="utf-8")
    plots = {}
    if write_confusion(evaluations, folder / CONFUSION):
        plots["Confusion matrices"] = CONFUSION
    if write_precision_recall(evaluations, folder / PRECISION_RECALL):
        plots["Precision and recall"] = PRECISION_RECALL
    if write_tracks(evaluations, folder / TRACKS):
        plots["Identities over time"] = TRACKS
    (folder / REPORT).write_text(_as_markdown(profile, evaluations, plots), encoding="utf-8")


def metrics_tables(evaluations: Sequence[Evaluation]) -> Group:
    """For each evaluation every metric with what is expected of it."""
    return Group(*(_metrics_table(each) for each in evaluations))


def _metrics_table(evaluation: Evaluation) -> Table:
    title = f"{evaluation.title} on {evaluation.dataset}, {evaluation.frames} frames"
    table = Table(title=title, title_justify="left", min_width=78)
    table.add_column("metric")
    for column in ("value", "expected", "verdict"):
        table.add_column(column, justify="right")
    for metric, value, expected, verdict in _rows(evaluation):
        table.add_row(metric, value, expected, verdict, style="red" if verdict == "worse" else None)
    return table


def _rows(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    """Metric, value, expectation and verdict of each metric and count, and of each that is expected and missing."""
    verdicts = {verdict.expectation.metric: verdict for verdict in evaluation.verdicts}
    rows = []
    for metric in dict.fromkeys([*evaluation.findings.metrics, *verdicts]):
        value = evaluation.findings.metrics.get(metric)
        verdict = verdicts.get(metric)
        expected = f">= {verdict.expectation.least:.4f}" if verdict else "-"
        judged = "-" if verdict is None else "ok" if verdict.passed else "worse"
        measured = "missing" if value is None else "nothing to measure" if isnan(value) else f"{value:.4f}"
        rows.append((metric, measured, expected, judged))
    return rows + [(name, str(count), "-", "-") for name, count in evaluation.findings.counts.items()]


def _as_json(profile: str, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    return {
        "profile": profile,
        "passed": not any(each.shortfalls for each in evaluations),
        "shortfalls": [shortfall for each in evaluations for shortfall in each.shortfalls],
        "evaluations": [
            {
                "subject": each.subject,
                "model": each.model,
                "dataset": each.dataset,
                "frames": each.frames,
                "notes": list(each.findings.notes),
                "metrics": {name: _number(value) for name, value in each.findings.metrics.items()},
                "counts": each.findings.counts,
                "expectations": [
                    {
                        "metric": verdict.expectation.metric,
                        "value": verdict.expectation.value,
                        "tolerance": verdict.expectation.tolerance,
                        "found": verdict.found,
                        "passed": verdict.passed,
                    }
                    for verdict in each.verdicts
                ],
                "by_category": each.findings.by_category,
            }
            for each in evaluations
        ],
    }


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if isnan(value) else round(value, 6)


def _as_markdown(profile: str, evaluations: Sequence[Evaluation], plots: dict[str, str]) -> str:
    shortfalls = [shortfall for each in evaluations for shortfall in each.shortfalls]
    lines = [f"# Evaluation of profile {profile}", ""]
    lines += ["Worse than expected:", "", *(f"- {text}" for text in shortfalls), ""] if shortfalls else []
    lines += [
        "| subject | data set | frames | metric | value | expected | verdict |",
        "|---|---|---:|---|---:|---:|---|",
    ]
    for each in evaluations:
        lines += [
            f"| {each.title} | {each.dataset} | {each.frames} | {metric} | {value} | {expected} | {verdict} |"
            for metric, value, expected, verdict in _rows(each)
        ]
    lines += [
        "",
        *(f"- {each.title} on {each.dataset}: {note}." for each in evaluations for note in each.findings.notes),
    ]
    lines += ["", "mAP is the mean over IoU 0.50 to 0.95 and over categories, as COCO has it."]
    if TRACKS in plots.values():
        lines += ["", "Without the tracker, the identities are the numbers of the segments in each frame by itself."]
    for title, name in plots.items():
        lines += ["", f"## {title}", "", f"![{title}]({name})"]
    for each in evaluations:
        if each.findings.by_category:
            lines += ["", f"## {each.title} on {each.dataset}, by category", "", *_category_table(each)]
    lines += [
        "",
        "The worst frames of each evaluation are in `worst/`, the truth on the left and the answer on the right.",
    ]
    return "\n".join(lines) + "\n"


def _category_table(evaluation: Evaluation) -> list[str]:
    metrics = list(dict.fromkeys(name for values in evaluation.findings.by_category.values() for name in values))
    return [
        "| category | " + " | ".join(metrics) + " |",
        "|---|" + "---:|" * len(metrics),
        *(
            f"| {category} | " + " | ".join(f"{values[name]:.3f}" if name in values else "" for name in metrics) + " |"
            for category, values in evaluation.findings.by_category.items()
        ),
    ]
