"""What is made by code is up to date, and says what it should."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.generated import outdated
from deploy.monitoring import dashboards, metrics_document
from services.runtime import metrics
from tests.deploy.monitoring.rules import rules, selectors

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(dashboards.FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def expressions() -> list[str]:
    return [target["expr"] for parameter in PANELS for target in parameter.values[0]["targets"]]


def test_the_files_are_up_to_date() -> None:
    assert outdated(dashboards.documents()) == []
    assert outdated(metrics_document.documents()) == []


def test_a_file_that_somebody_changed_is_found(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("made")
    (tmp_path / "changed").write_text("by hand")
    made = {tmp_path / name: "made" for name in ("same", "changed", "missing")}
    assert outdated(made) == [tmp_path / "changed", tmp_path / "missing"]


def test_the_reference_names_every_metric() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\S+) \|", metrics_document.DOCUMENT.read_text(), re.MULTILINE)
    declared = re.findall(r"^\w+ = (?:Counter|Gauge|Histogram)\(", Path(metrics.__file__).read_text(), re.MULTILINE)
    assert len(rows) == len(declared) >= 25
    kinds = {name: (kind, unit) for name, kind, unit in rows}
    assert kinds["perception_camera_last_frame_age_seconds"] == ("gauge", "seconds")
    assert kinds["perception_requests_total"] == ("counter", "1")
    assert kinds["perception_stream_answer_age_seconds"] == ("histogram", "seconds")


def test_the_four_dashboards_have_their_variables() -> None:
    variables = {name: [one["name"] for one in board["templating"]["list"]] for name, board in BOARDS.items()}
    assert variables == {
        "overview": ["datasource", "namespace"],
        "cameras": ["datasource", "namespace", "camera"],
        "models": ["datasource", "namespace", "model"],
        "capacity": ["datasource", "namespace"],
    }
    for name, board in BOARDS.items():
        text = json.dumps(board["panels"])
        for variable in variables[name]:
            assert f"${variable}" in text or f"${{{variable}}}" in text


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_side_by_side(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    identities = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert len(identities) == len(set(identities))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_to_look_for(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert len(panel["description"]) > 10
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        found = selectors(target["expr"])
        assert found
        for selector in found:
            assert 'job="perception", namespace="$namespace"' in selector


def test_nothing_is_asked_for_that_nobody_exports() -> None:
    """Our own series; those of Triton and of the processes are looked for in the live test."""
    declared = {metrics_document.exported_name(metric) for metric in metrics_document.declared()}
    histograms = {name + end for name in declared for end in ("_bucket", "_sum", "_count")}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = set()
    for expression in [*expressions(), *(rule["expr"] for rule in rules())]:
        asked |= set(re.findall(r"\bperception_\w+", expression)) | set(re.findall(r"\bperception:[\w:]+", expression))
    assert asked <= declared | histograms | recorded
    assert recorded <= asked, "a rule records what nobody asks for"
