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


def hurry(rule: Rule, times: int) -> Rule:
    """A rule with its windows, and the time for which an alert must hold, so many times shorter."""

    def shorter(duration: re.Match[str]) -> str:
        return f"{max(3, int(duration[1]) * _SECONDS[duration[2]] // times)}s"

    windows = re.sub(r"(?<=\[)(\d+)([smh])(?=\])", shorter, rule["expr"])
    holding = {"for": re.sub(r"^(\d+)([smh])$", shorter, rule["for"])} if "for" in rule else {}
    return {**rule, "expr": windows, **holding}


def hurried(times: int, replacements: Mapping[str, str]) -> dict[str, Any]:
    """The file of all rules, hurried, with other text in expressions."""

    def changed(rule: Rule) -> Rule:
        expression = hurry(rule, times)["expr"]
        for old, new in replacements.items():
            expression = expression.replace(old, new)
        return {**hurry(rule, times), "expr": expression}

    return {"groups": [{**group, "rules": [changed(rule) for rule in group["rules"]]} for group in groups()]}
