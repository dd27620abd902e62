"""Real services over small models whose right answers are known."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.contract_models import write_repository
from tests.support.service import ServiceProcess

# Generated cases are the same on every machine, and a slow one is no failure: machines are shared.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one small model for each task."""
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def service(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ServiceProcess]]:
    """A running task service over the small models: `service(task)`; it lives until all tests are done."""
    directory = tmp_path_factory.mktemp("services")
    running: dict[str, ServiceProcess] = {}
    with ExitStack() as stack:

        def start(task: str) -> ServiceProcess:
            if task not in running:
                process = ServiceProcess(task, directory, ENGINE="onnxruntime", MODEL_REPOSITORY=small_models)
                running[task] = stack.enter_context(process).wait_until_ready()
            return running[task]

        yield start
