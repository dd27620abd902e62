"""That the tests which the documents name as proof are there."""

from __future__ import annotations

import re

import pytest

from deploy.lock import PROJECT


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/fuzzing.md"])
def test_every_test_that_is_named_exists(document: str) -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (PROJECT / document).read_text())
    assert len(named) > 4
    assert [path for path in named if not (PROJECT / path).is_file()] == []
