"""The local backends as modules, beside the utilities that Triton gives to them."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from services.stack.triton import DEFAULT_ENVIRONMENT

BACKENDS = Path(__file__).parents[3] / "models" / "backends"


@pytest.fixture(scope="module")
def backend_named() -> Iterator[Callable[[str], ModuleType]]:
    """models/backends/<name>/model.py; what it imports and is not here comes from the server's environment."""
    environment = Path(os.environ.get("TRITON_ENVIRONMENT", DEFAULT_ENVIRONMENT))
    packages = next(environment.glob("lib/python*/site-packages"), None)
    if packages is None or not (packages / "pytriton").is_dir():
        pytest.skip(f"{environment} is missing: no Triton server")
    utilities = packages / "pytriton" / "tritonserver" / "backends" / "python"
    added = [str(utilities), str(BACKENDS), str(packages)]
    sys.path += added

    @cache
    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{name}_backend", BACKENDS / name / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for path in added:
        sys.path.remove(path)
