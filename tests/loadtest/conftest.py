"""A small system of real processes, for the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.contract_models import write_model
from tests.support.stack import TAXONOMY, Stack

# Generated cases are the same on every machine, and a slow one is no failure: machines are shared.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def small_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two task services that run small models themselves, and the gateway."""
    directory = tmp_path_factory.mktemp("small_stack")
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    repository = directory / "repository"
    for task in ("detection", "semantic_segmentation"):
        write_model(repository, task)
    with Stack(repository, str(taxonomy), "onnxruntime", directory) as running:
        yield running
