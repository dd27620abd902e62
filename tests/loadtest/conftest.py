"""A whole system of real processes over small models, for the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.contract_models import write_repository
from tests.support.stack import TAXONOMY, Stack

# Generated cases are the same on every machine, and a slow one is no failure: machines are shared.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def small_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Four task services that run small models themselves, and the gateway."""
    directory = tmp_path_factory.mktemp("small_stack")
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    repository = write_repository(directory / "repository")
    with Stack(repository, str(taxonomy), "onnxruntime", directory) as running:
        yield running
