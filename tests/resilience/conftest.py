"""What the tests of this folder stand on.

Short by default. `make test-resilience` sets RESILIENCE_SECONDS: overload lasts so long, failures five times.
"""

from __future__ import annotations

import os

from tests.integration.conftest import contract_repository, start_triton, triton_environment

__all__ = ["SECONDS", "contract_repository", "is_long", "start_triton", "triton_environment"]

SECONDS = float(os.environ.get("RESILIENCE_SECONDS", "0"))
"""How long the overload lasts; 0: as short as it can be."""


def is_long() -> bool:
    """Whether figures are held to what is promised, and not only looked at: for that a test must not be short."""
    return SECONDS >= 60
