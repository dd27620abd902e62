"""Generates `perception.v1` from `protos/`: messages, gRPC stubs and their types.

Run by the build of this package and by `make stubs`; what it writes is not committed.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parents[1] / "protos"


def generate() -> None:
    """Writes the stubs into `perception/v1`. Raises `RuntimeError` where protoc fails or its plugin is missing."""
    from grpc_tools import protoc

    # An isolated build has the plugin on PATH, an environment that is not activated beside its interpreter.
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    plugin = shutil.which("protoc-gen-mypy_grpc", path=places)
    if plugin is None:
        raise RuntimeError("protoc-gen-mypy_grpc is missing: install the package mypy-protobuf")
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={HERE}",
        f"--pyi_out={HERE}",
        f"--grpc_python_out={HERE}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}",
        f"--mypy_grpc_out=quiet:{HERE}",
        *(str(path) for path in sorted(PROTOS.glob("perception/v1/*.proto"))),
    ]
    status = protoc.main(arguments)
    if status != 0:
        raise RuntimeError(f"protoc failed with exit status {status}")


if __name__ == "__main__":
    generate()
