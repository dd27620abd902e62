"""One set of categories for the answers of several models.

A taxonomy file is YAML: `name`; `categories`, in order, each with `name`, `is_thing`, `color` [red, green, blue],
`instance_labels` (labels of detection and instance models that mean it; things only) and `semantic_labels` (labels of
semantic models that mean it); and `attributes`, rules that say which categories classification describes, each with
`name`, `categories`, `labels` (those that count; without it, all) and `minimum_score`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from perception.types import UNLABELLED
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from services.runtime.yaml_file import YamlError, read_yaml

TAXONOMY_FOLDER = Path(__file__).parent / "taxonomies"

NO_CATEGORY = 0
"""Category id of what no category claims; categories count from 1."""

Name = Annotated[str, StringConstraints(min_length=1)]
Channel = Annotated[int, Field(strict=True, ge=0, le=255)]
Source = Literal["instance", "semantic"]


class TaxonomyError(ValueError):
    """A taxonomy file is missing or wrong; the message names the file, the key and what was found."""


class _Strict(BaseModel):
    """Refuses unknown keys and values of another type, so that a slip of the pen is an error and not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Category(_Strict):
    """A kind of thing or stuff. color: red, green, blue, 0..255."""

    name: Name
    is_thing: Annotated[bool, Field(strict=True)]
    color: tuple[Channel, Channel, Channel]
    instance_labels: tuple[Name, ...] = ()
    semantic_labels: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _stuff_has_no_instances(self) -> Self:
        if self.instance_labels and not self.is_thing:
            raise ValueError(f"instance_labels: expected none for stuff {self.name!r}, found {self.instance_labels}")
        return self


class AttributeRule(_Strict):
    """What classification adds to segments of some categories.

    labels: the classification labels that count as its values, None for all. A value is added when its probability
    reaches `minimum_score`.
    """

    name: Name
    categories: Annotated[tuple[Name, ...], Field(min_length=1)]
    labels: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    minimum_score: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.5


class Taxonomy(_Strict):
    """The categories of a system: a category's id is its position, from 1."""

    name: Name
    categories: Annotated[tuple[Category, ...], Field(min_length=1, max_length=255)]
    attributes: tuple[AttributeRule, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [category.name for category in self.categories]
        _refuse_repeated("categories", "name", names)
        _refuse_repeated("categories", "instance label", [n for c in self.categories for n in c.instance_labels])
        _refuse_repeated("categories", "semantic label", [n for c in self.categories for n in c.semantic_labels])
        _refuse_repeated("attributes", "name", [rule.name for rule in self.attributes])
        for rule in self.attributes:
            if unknown := sorted(set(rule.categories) - set(names)):
                raise ValueError(f"attributes: {rule.name!r} expected names of categories, found {unknown}")
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Reads a taxonomy: one of those in `TAXONOMY_FOLDER` by name, or any YAML file by its path.

        Raises `TaxonomyError` for a file that cannot be read or is no taxonomy.
        """
        path = Path(name_or_path)
        if path.suffix not in {".yaml", ".yml"}:
            path = TAXONOMY_FOLDER / f"{name_or_path}.yaml"
        try:
            content = read_yaml(path)
        except OSError as error:
            known = ", ".join(sorted(file.stem for file in TAXONOMY_FOLDER.glob("*.yaml")))
            raise TaxonomyError(f"{path}: expected a taxonomy file or one of {known}; {error.strerror}") from error
        except YamlError as error:
            raise TaxonomyError(f"{path}: {error}") from error
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise TaxonomyError(_readable(path, error)) from error

    def category(self, category_id: int) -> Category:
        """The category with that id, from 1. Raises `IndexError` for an id that no category has."""
        if not 1 <= category_id <= len(self.categories):
            raise IndexError(f"category id: expected 1..{len(self.categories)}, got {category_id}")
        return self.categories[category_id - 1]

    @cached_property
    def instance_ids(self) -> dict[str, int]:
        """Category id of each label of detection and instance models."""
        return {label: id for id, category in enumerate(self.categories, 1) for label in category.instance_labels}

    @cached_property
    def semantic_ids(self) -> dict[str, int]:
        """Category id of each label of semantic models."""
        return {label: id for id, category in enumerate(self.categories, 1) for label in category.semantic_labels}

    def semantic_table(self, labels: Sequence[str]) -> NDArray[np.uint8]:
        """The category id of each value of a class map, uint8 [256]; `NO_CATEGORY` for labels nothing claims.

        labels: the semantic model's labels in its own order, as in `ClassMap.labels`.
        """
        table = np.full(UNLABELLED + 1, NO_CATEGORY, np.uint8)
        table[: len(labels)] = [self.semantic_ids.get(label, NO_CATEGORY) for label in labels]
        return table

    def unmapped(self, labels: Iterable[str], source: Source) -> tuple[str, ...]:
        """Those of a model's labels that no category claims, in their order: fusion leaves them out."""
        claimed = self.instance_ids if source == "instance" else self.semantic_ids
        return tuple(label for label in labels if label not in claimed)


def _refuse_repeated(key: str, what: str, values: list[str]) -> None:
    if repeated := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{key}: expected every {what} once, found more than once: {', '.join(repeated)}")


def _readable(path: Path, error: ValidationError) -> str:
    """One line a fault: file, key, reason, what was found."""
    lines = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(step) for step in fault["loc"])
        found = "" if fault["type"] in {"missing", "value_error"} else f", found {reprlib.repr(fault['input'])}"
        lines.append(f"{path}: {key + ': ' if key else ''}{fault['msg'].removeprefix('Value error, ')}{found}")
    return "\n".join(lines)
