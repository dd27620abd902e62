"""The API documents itself, and keeps the rules of its linter."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import perception.v1
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

PROJECT = Path(__file__).resolve().parents[2]
PROTOS = PROJECT / "protos"
BUF = PROJECT / ".cache" / "buf" / "node_modules" / ".bin" / "buf"

# Numbers of the fields in descriptor.proto, which make up the path of an element in its file.
MESSAGES, ENUMERATIONS, SERVICES = 4, 5, 6
FIELDS, NESTED_MESSAGES, NESTED_ENUMERATIONS = 2, 3, 4
VALUES = METHODS = 2

Path_ = tuple[int, ...]


@pytest.fixture(scope="module")
def protos(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    """Every file of the API as protoc reads it, comments included."""
    output = tmp_path_factory.mktemp("protos") / "descriptors"
    arguments = ["protoc", f"--proto_path={PROTOS}", f"--proto_path={files('grpc_tools') / '_proto'}"]
    sources = [str(path) for path in sorted(PROTOS.glob("**/*.proto"))]
    assert protoc.main([*arguments, "--include_source_info", f"--descriptor_set_out={output}", *sources]) == 0
    return list(FileDescriptorSet.FromString(output.read_bytes()).file)


def elements(proto: FileDescriptorProto) -> Iterator[tuple[str, Path_]]:
    """Name and path of every message, field, enumeration, value, service and method."""
    for index, message in enumerate(proto.message_type):
        yield from of_message(message, message.name, (MESSAGES, index))
    for index, enumeration in enumerate(proto.enum_type):
        yield from of_enumeration(enumeration, enumeration.name, (ENUMERATIONS, index))
    for index, service in enumerate(proto.service):
        yield service.name, (SERVICES, index)
        for number, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (SERVICES, index, METHODS, number)


def of_message(message: DescriptorProto, name: str, path: Path_) -> Iterator[tuple[str, Path_]]:
    yield name, path
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, FIELDS, index)
    for index, nested in enumerate(message.nested_type):
        yield from of_message(nested, f"{name}.{nested.name}", (*path, NESTED_MESSAGES, index))
    for index, enumeration in enumerate(message.enum_type):
        yield from of_enumeration(enumeration, f"{name}.{enumeration.name}", (*path, NESTED_ENUMERATIONS, index))


def of_enumeration(enumeration, name: str, path: Path_) -> Iterator[tuple[str, Path_]]:  # type: ignore[no-untyped-def]
    yield name, path
    for index, value in enumerate(enumeration.value):
        yield f"{name}.{value.name}", (*path, VALUES, index)


def test_every_element_has_a_comment(protos: list[FileDescriptorProto]) -> None:
    missing, seen = [], 0
    for proto in protos:
        comments = {tuple(place.path): place.leading_comments for place in proto.source_code_info.location}
        for name, path in elements(proto):
            seen += 1
            comment = comments.get(path, "").strip()
            if not comment.endswith((".", ":")):
                missing.append(f"{proto.name}: {name}: {comment!r}")
    assert not missing
    assert seen > 150


def test_every_file_is_part_of_the_client(protos: list[FileDescriptorProto]) -> None:
    (folder,) = perception.v1.__path__
    for proto in protos:
        stub = Path(folder) / f"{Path(proto.name).stem}_pb2.py"
        assert stub.is_file(), f"{stub}: run `make stubs`"


def test_the_stubs_are_those_of_the_protos(protos: list[FileDescriptorProto]) -> None:
    """Stubs are generated, not committed: old ones would make every other test speak of another API."""
    import importlib

    for proto in protos:
        module = importlib.import_module(f"perception.v1.{Path(proto.name).stem}_pb2")
        generated = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(generated)
        plain = FileDescriptorProto.FromString(proto.SerializeToString())
        plain.ClearField("source_code_info")
        # `json_name` is derived from the name, and kept by one of the two only.
        for file in (plain, generated):
            for message in file.message_type:
                for field in message.field:
                    field.ClearField("json_name")
        assert generated == plain, f"{proto.name}: run `make stubs`"


def test_buf_lint() -> None:
    if not BUF.exists():
        pytest.skip(f"{BUF.relative_to(PROJECT)} is not installed: `make environment-dev` does")
    ended = subprocess.run([BUF, "lint"], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
