"""Generates `perception.v1` from `protos/`: messages, gRPC stubs and their types.

Run by the build of this package and by `make stubs`; what it writes is not committed.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parents[1] / "protos"


def generate() -> None:
    """Writes the stubs into `perception/v1`. Raises `RuntimeError` with protoc's exit status when it fails."""
    from grpc_tools import protoc

    # protoc finds its mypy plugin on PATH; an isolated build has it beside its own interpreter only.
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={HERE}",
        f"--pyi_out={HERE}",
        f"--grpc_python_out={HERE}",
        *([f"--plugin=protoc-gen-mypy_grpc={plugin}", f"--mypy_grpc_out=quiet:{HERE}"] if plugin.exists() else []),
        *(str(path) for path in sorted(PROTOS.glob("perception/v1/*.proto"))),
    ]
    status = protoc.main(arguments)
    if status != 0:
        raise RuntimeError(f"protoc failed with exit status {status}")


if __name__ == "__main__":
    generate()
