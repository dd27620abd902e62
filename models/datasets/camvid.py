"""CamVid: street video of Cambridge with eleven semantic classes (Brostow et al., PRL 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from models.datasets.files import read_image, read_json, read_label_map
from models.datasets.sample import IGNORE_LABEL, Category, DatasetError, Sample

Byte = Annotated[int, Field(ge=0, le=255)]


class _Class(BaseModel):
    id: Byte
    name: str
    rgb: tuple[Byte, Byte, Byte]
    ignore: bool
    isthing: bool


class _Classes(BaseModel):
    classes: list[_Class]


class CamVidDataset:
    """Semantic truth without instances: samples have ``semantic``, and neither segments nor a panoptic map.

    ``root`` holds ``images/camvid/<split>/*.jpg``, ``labels/camvid/<split>/*.png`` (uint8, one id a pixel) and
    ``labels/camvid/classes.json``, which says which id is to be ignored.
    """

    def __init__(self, root: Path, split: str) -> None:
        images, labels = root / "images" / "camvid" / split, root / "labels" / "camvid" / split
        self._files = [(image, labels / f"{image.stem}.png") for image in sorted(images.glob("*.jpg"))]
        if not self._files:
            raise DatasetError(f"CamVid split {split!r}: expected pictures in {images}, found none")
        classes_file = root / "labels" / "camvid" / "classes.json"
        classes = sorted(read_json(classes_file, _Classes).classes, key=lambda entry: entry.id)
        counted = [entry for entry in classes if not entry.ignore]
        if [entry.id for entry in counted] != list(range(len(counted))):
            found = [entry.id for entry in counted]
            raise DatasetError(f"{classes_file}: expected class ids from 0 without gaps, found {found}")
        self._categories = tuple(Category(entry.name, entry.isthing, entry.rgb) for entry in counted)
        self._train_ids = np.full(256, IGNORE_LABEL, np.uint8)
        self._train_ids[: len(counted)] = np.arange(len(counted))
        self._known = np.zeros(256, bool)
        self._known[[entry.id for entry in classes]] = True
        self._split = split

    @property
    def name(self) -> str:
        """``camvid/<split>``."""
        return f"camvid/{self._split}"

    @property
    def categories(self) -> tuple[Category, ...]:
        """The eleven classes; a class's position is its train id."""
        return self._categories

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        image_file, label_file = self._files[index]
        image = read_image(image_file)
        labels = read_label_map(label_file, np.uint8, image.shape[:2])
        if not self._known[labels].all():
            raise DatasetError(f"{label_file}: expected ids of classes.json, found {np.unique(labels).tolist()}")
        video, _, frame = image_file.stem.rpartition("_")
        return Sample(
            image=image,
            file_name=image_file.name,
            image_id=index + 1,
            semantic=self._train_ids[labels],
            video=video or None,
            frame_index=int(digits) if (digits := frame.lstrip("f")).isdigit() else None,
        )
