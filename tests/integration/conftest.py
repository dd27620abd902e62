"""Real servers for the tests in this folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.runtime.engines.triton import TritonEngine
from services.stack.triton import DEFAULT_ENVIRONMENT, remove_shared_memory, triton_runs_here
from tests.support.contract_models import TASKS, write_repository
from tests.support.triton import TritonServer

StartTriton = Callable[..., TritonServer]


@pytest.fixture(scope="session")
def triton_environment() -> Path:
    """The Python environment that carries the server; without one the test is skipped."""
    environment = Path(os.environ.get("TRITON_ENVIRONMENT", DEFAULT_ENVIRONMENT))
    if not environment.is_dir():
        pytest.skip(f"{environment} is missing: no Triton server")
    runs, reason = triton_runs_here(environment)
    assert runs, reason
    return environment


@pytest.fixture(scope="module")
def start_triton(triton_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartTriton]:
    """Starts servers that live until the module's tests are done: `start_triton(repository, models)`."""
    servers: list[TritonServer] = []

    def start(repository: Path, models: list[str], run_directory: Path | None = None) -> TritonServer:
        directory = run_directory or tmp_path_factory.mktemp("triton")
        servers.append(TritonServer(repository, models, directory, triton_environment))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()
        remove_shared_memory(server.command.shared_memory_prefix)


@pytest.fixture(scope="session")
def contract_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one small model per task, named after it."""
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def contract_triton(
    triton_environment: Path, contract_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """One server for the whole run, over the repository with one small model per task."""
    server = TritonServer(contract_repository, TASKS, tmp_path_factory.mktemp("triton"), triton_environment).start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def engine_of() -> AsyncIterator[Callable[[TritonServer, str], TritonEngine]]:
    """Makes engines that are closed after the test: `engine_of(server, model)`."""
    engines: list[TritonEngine] = []

    def make(server: TritonServer, model: str) -> TritonEngine:
        engines.append(TritonEngine(server.url, model))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()
