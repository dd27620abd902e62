"""YAML of the catalogue, of profiles, plans and runs, which may be somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2**20
MAX_DEPTH = 32


class YamlError(ValueError):
    """A file that is no YAML, or YAML that nobody writes by hand; the message says why, without the file's name."""


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises `OSError` where it cannot be read, and `YamlError` for what is not YAML, for more than `MAX_BYTES`, for more
    than 32 levels, and for aliases, of which a few lines could fill any memory.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise YamlError(f"expected at most {MAX_BYTES} bytes")
    try:
        text = data.decode()
        _check_shape(text)
        return yaml.load(text, yaml.CSafeLoader)
    except YamlError:
        raise
    except Exception as error:  # PyYAML's constructors document no closed set: a date may be an AttributeError
        raise YamlError(f"expected YAML; {error}") from error


def _check_shape(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise YamlError(f"line {line}: expected no alias, found one")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise YamlError(f"line {line}: expected at most {MAX_DEPTH} levels")
