"""The chart's rules, and how to hurry them for a test."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.chart_documents import CHART

RULES = [CHART / "rules" / "recording.yaml", CHART / "rules" / "alerts.yaml"]
RUNBOOKS = Path(__file__).resolve().parents[3] / "docs" / "runbooks"

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SELECTOR = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*\{[^}]*\}|\{__name__[^}]*\}")

Rule = dict[str, Any]


def needs(program: str) -> pytest.MarkDecorator:
    """Skips where Debian's package `prometheus` is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is missing: apt-get install prometheus")


def groups() -> list[dict[str, Any]]:
    """All groups of rules."""
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def rules() -> list[Rule]:
    """All recording rules and alerts."""
    return [rule for group in groups() for rule in group["rules"]]


def alerts() -> list[Rule]:
    """All alerts."""
    return [rule for rule in rules() if "alert" in rule]


def selectors(expression: str) -> list[str]:
    """The vector selectors of a PromQL expression."""
    return _SELECTOR.findall(expression)


def hurry(expression: str) -> str:
    """An expression with windows that are twenty times shorter."""
    return re.sub(r"(?<=\[)\d+[smh](?=\])", lambda window: f"{_seconds(window[0]) // 20}s", expression)


def hurried(replacements: Mapping[str, str]) -> dict[str, Any]:
    """The file of all rules, hurried, with other text in expressions.

    Alerts hold for a tenth of their time: a machine that is busy for some seconds must not look like an outage.
    """

    def changed(rule: Rule) -> Rule:
        expression = hurry(rule["expr"])
        for old, new in replacements.items():
            expression = expression.replace(old, new)
        holding = {"for": f"{_seconds(rule['for']) // 10}s"} if "for" in rule else {}
        return {**rule, "expr": expression, **holding}

    return {"groups": [{**group, "rules": [changed(rule) for rule in group["rules"]]} for group in groups()]}


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * _SECONDS[duration[-1]]
