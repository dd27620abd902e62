"""Makes docs/metrics.md: `python -m deploy.monitoring.metrics_document`, `--check` to compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from deploy.generated import command
from services.runtime import metrics

_PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = _PROJECT / "docs" / "metrics.md"

_UNITS = {"_seconds": "seconds", "_per_second": "1/s"}
_INTRODUCTION = """\
<!-- Made by python -m deploy.monitoring.metrics_document from services/runtime/metrics.py. -->
# Metrics

Every process of ours answers `GET /metrics` on its `METRICS_PORT`. A process exports all of these, and says something
with those of its own part: the task services with `perception_requests*`, `perception_limit*`, `perception_stage*` and
`perception_model*`, the gateway with the first three, `perception_task*`, `perception_segments` and
`perception_stream*`, a camera agent with `perception_camera*`, the viewer with `perception_viewer*`. Python's own
`process_*` and `python_*` come along. Triton's `nv_*` are
[NVIDIA's](https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html).

Rules and dashboards tell where a series comes from by the labels that Prometheus adds: `job="perception"`,
`namespace`, `pod`, `component` (`gateway`, `detection`, `instance-segmentation`, `semantic-segmentation`,
`classification`, `triton`, `camera`, `viewer`), and `pool` for Triton. The chart's PodMonitor sets them.
"""


def declared() -> Iterator[MetricWrapperBase]:
    """The metrics that the services declare, in their order."""
    yield from (value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase))


def exported_name(metric: MetricWrapperBase) -> str:
    """The name as Prometheus has it; a histogram's without `_bucket`, `_sum` and `_count`."""
    (family,) = metric.describe()
    return f"{family.name}_total" if isinstance(metric, Counter) else family.name


def document() -> str:
    """What docs/metrics.md must hold."""
    lines = [_INTRODUCTION, "| name | type | unit | labels | |", "|---|---|---|---|---|"]
    lines += [_row(metric) for metric in declared()]
    lines += ["", "## Buckets", "", "Upper bounds of the histograms, in the unit of each.", ""]
    for metric in declared():
        if isinstance(metric, Histogram):
            bounds = ", ".join(map(str, metric._upper_bounds[:-1]))  # the last one is infinity
            lines.append(f"- `{exported_name(metric)}`: {bounds}")
    return "\n".join(lines) + "\n"


def _row(metric: MetricWrapperBase) -> str:
    (family,) = metric.describe()
    name = exported_name(metric)
    unit = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "1")
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    kind = next(kind for kind in (Counter, Gauge, Histogram) if isinstance(metric, kind)).__name__.lower()
    return f"| `{name}` | {kind} | {unit} | {labels} | {family.documentation} |"


def documents() -> dict[Path, str]:
    """The file, and what it must hold."""
    return {DOCUMENT: document()}


if __name__ == "__main__":
    command(
        "python -m deploy.monitoring.metrics_document",
        "Make docs/metrics.md of the metrics that the services declare.",
        documents,
    )
