"""Makes the chart's dashboards: `python -m deploy.monitoring.dashboards`, `--check` to compare."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.generated import command
from deploy.monitoring.cameras import CAMERAS
from deploy.monitoring.capacity import CAPACITY
from deploy.monitoring.grafana import to_json
from deploy.monitoring.models import MODELS
from deploy.monitoring.overview import OVERVIEW

FOLDER = Path(__file__).resolve().parents[1] / "helm" / "perception" / "dashboards"
DASHBOARDS = (OVERVIEW, CAMERAS, MODELS, CAPACITY)


def documents() -> dict[Path, str]:
    """The files, and what they must hold."""
    return {
        FOLDER / f"{dashboard.name}.json": json.dumps(to_json(dashboard), indent=2) + "\n" for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    command("python -m deploy.monitoring.dashboards", "Make the chart's dashboards.", documents)
