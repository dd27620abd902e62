"""What tests everywhere can ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Where tests run side by side, readline has told each process of a terminal of 80 columns, which none of them has;
# tests of tables choose a width themselves.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)


@pytest.fixture(scope="session")
def perception_data() -> Path:
    """The folder of real images, labels, videos and weights; without it the test is skipped."""
    folder = os.environ.get("PERCEPTION_DATA")
    if not folder:
        pytest.skip("PERCEPTION_DATA is not set: no real data here")
    return Path(folder)
