"""YAML files that people write, read with no more trust than what strangers send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2**20
_MAX_DEPTH = 32


class YamlError(ValueError):
    """A file that is no YAML, or YAML that nobody writes by hand; the message says why, without the file's name."""


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises `OSError` where it cannot be read, and `YamlError` as `parse_yaml` does."""
    with path.open("rb") as file:
        return parse_yaml(file.read(MAX_BYTES + 1))


def parse_yaml(data: bytes) -> Any:
    """What YAML holds.

    Raises `YamlError` for what is not YAML, for more than `MAX_BYTES`, for more than 32 levels, and for aliases inside
    of anchors, of which a few lines could fill any memory.
    """
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
    inside_anchor = [False]
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            inside_anchor.append(inside_anchor[-1] or event.anchor is not None)
            if len(inside_anchor) > _MAX_DEPTH:
                raise YamlError(f"{_place(event)}: expected at most {_MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            inside_anchor.pop()
        elif isinstance(event, yaml.AliasEvent) and inside_anchor[-1]:
            raise YamlError(f"{_place(event)}: expected no alias inside of an anchor, found one")


def _place(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "somewhere"
