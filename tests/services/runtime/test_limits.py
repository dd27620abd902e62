"""docs/limits.md says what the settings are, and which error each breach is."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from pydantic_settings import BaseSettings

from services.gateway.settings import GatewaySettings
from services.runtime import errors
from services.runtime.settings import TaskSettings
from services.viewer.settings import ViewerSettings
from tests.support.service import PROJECT

OWNERS: dict[str, tuple[type[BaseSettings], ...]] = {
    "all services": (TaskSettings, GatewaySettings),
    "classification": (TaskSettings,),
    "gateway": (GatewaySettings,),
    "viewer": (ViewerSettings,),
}


@dataclass(frozen=True)
class Row:
    setting: str
    of: str
    default: str
    breached: str


def rows() -> list[Row]:
    lines = (PROJECT / "docs" / "limits.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [Row(setting.split("`")[1], *rest) for _, setting, *rest in cells[1:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.setting)
def test_a_row_is_true(row: Row) -> None:
    name = row.setting.lower()
    found = [kind.model_fields[name].default for kind in OWNERS[row.of]]
    said = row.default.removesuffix(": no limit").split("; gateway ")
    assert said == list(dict.fromkeys(map(str, found)))
    named = re.match(r"`([A-Z_]+)`, `([A-Z_]+)`", row.breached)
    if named:
        code, reason = named.groups()
        kinds = {kind.reason: kind for kind in vars(errors).values() if hasattr(kind, "reason") and kind.reason}
        assert kinds[reason].code.name == code


def test_every_limit_is_there() -> None:
    """Those that say so by their names."""
    names = {name for kind in (TaskSettings, GatewaySettings, ViewerSettings) for name in kind.model_fields}
    limits = {name for name in names if name.startswith("max_") or "limit" in name or name.endswith("idle_seconds")}
    assert limits <= {row.setting.lower() for row in rows()}
