"""The JSON of COCO detection and panoptic annotations: the fields that are read, checked on loading."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from models.datasets.files import inside
from models.datasets.sample import Category, DatasetError

Byte = Annotated[int, Field(ge=0, le=255)]
Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Box = tuple[Coordinate, Coordinate, Length, Length]


class CategoryEntry(BaseModel):
    """A category; files of detection leave out ``isthing`` and ``color``."""

    id: int
    name: str
    isthing: bool = True
    color: tuple[Byte, Byte, Byte] | None = None


class ImageEntry(BaseModel):
    """An image; ``video_id`` and ``frame_index`` only where it is a frame of a video."""

    id: int
    file_name: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    video_id: int | None = None
    frame_index: Annotated[int, Field(ge=0)] | None = None


class SegmentEntry(BaseModel):
    """One entry of ``segments_info``; ``bbox`` is x, y, width, height."""

    id: Annotated[int, Field(gt=0, lt=1 << 24)]
    category_id: int
    bbox: Box
    area: Length
    iscrowd: bool = False
    track_id: int | None = None
    attributes: dict[str, str] = {}


class PanopticEntry(BaseModel):
    """The segments of one image, and the PNG that holds their pixels."""

    image_id: int
    file_name: str
    segments_info: list[SegmentEntry]


class RunLengths(BaseModel):
    """A mask as run lengths, compressed or not; ``size`` is height, width."""

    size: tuple[int, int]
    counts: str | list[Annotated[int, Field(ge=0, lt=1 << 32)]]


class InstanceEntry(BaseModel):
    """One instance; polygons are flat lists x0, y0, x1, y1, ... in pixels."""

    image_id: int
    category_id: int
    bbox: Box
    area: Length
    segmentation: RunLengths | list[Annotated[list[Coordinate], Field(min_length=6)]]
    iscrowd: bool = False
    track_id: int | None = None
    attributes: dict[str, str] = {}


class VideoEntry(BaseModel):
    """A video."""

    id: int
    name: str


class PanopticFile(BaseModel):
    """A file of panoptic annotations."""

    images: list[ImageEntry]
    categories: list[CategoryEntry]
    annotations: list[PanopticEntry]
    videos: list[VideoEntry] = []


class InstancesFile(BaseModel):
    """A file of detection annotations."""

    images: list[ImageEntry]
    categories: list[CategoryEntry]
    annotations: list[InstanceEntry]
    videos: list[VideoEntry] = []


def categories_of(path: Path, entries: list[CategoryEntry]) -> dict[int, Category]:
    """Categories by COCO id in the file's order; a category without a colour gets one of its own."""
    categories = {
        entry.id: Category(entry.name, entry.isthing, entry.color or _colour(index))
        for index, entry in enumerate(entries)
    }
    if len(categories) != len(entries):
        raise DatasetError(f"{path}: expected unique category ids, found {sorted(entry.id for entry in entries)}")
    return categories


def pictures_present(path: Path, entries: list[ImageEntry], folder: Path) -> list[tuple[ImageEntry, Path]]:
    """The images whose picture is in the folder, in the file's order."""
    if len({entry.id for entry in entries}) != len(entries):
        raise DatasetError(f"{path}: expected unique image ids, found some twice among {len(entries)}")
    present = [(entry, picture) for entry in entries if (picture := inside(folder, entry.file_name, path)).is_file()]
    if not present:
        raise DatasetError(f"{path}: expected pictures in {folder}, found none of the {len(entries)} listed")
    return present


def check_references(path: Path, category_ids: Iterable[int], categories: dict[int, Category]) -> None:
    """Every annotation must name a category of the file."""
    unknown = set(category_ids) - set(categories)
    if unknown:
        raise DatasetError(f"{path}: expected category ids of the file, found also {sorted(unknown)[:10]}")


def corners(box: Box) -> tuple[float, float, float, float]:
    """COCO's x, y, width, height as x0, y0, x1, y1."""
    x, y, width, height = box
    return x, y, x + width, y + height


def _colour(index: int) -> tuple[int, int, int]:
    """Colours far apart for neighbouring indices: hues a golden angle apart."""
    r, g, b = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.75, 0.9)
    return round(255 * r), round(255 * g), round(255 * b)
