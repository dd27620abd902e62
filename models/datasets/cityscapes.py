"""Cityscapes with fine annotations (Cordts et al., CVPR 2016): the 19 evaluated classes, 8 of them things."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.datasets.files import read_image, read_label_map
from models.datasets.sample import IGNORE_LABEL, VOID_ID, Category, DatasetError, Sample, Segment, mask_box

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Cityscapes' own label id of every train id."""

CATEGORIES = (
    Category("road", False, (128, 64, 128)),
    Category("sidewalk", False, (244, 35, 232)),
    Category("building", False, (70, 70, 70)),
    Category("wall", False, (102, 102, 156)),
    Category("fence", False, (190, 153, 153)),
    Category("pole", False, (153, 153, 153)),
    Category("traffic light", False, (250, 170, 30)),
    Category("traffic sign", False, (220, 220, 0)),
    Category("vegetation", False, (107, 142, 35)),
    Category("terrain", False, (152, 251, 152)),
    Category("sky", False, (70, 130, 180)),
    Category("person", True, (220, 20, 60)),
    Category("rider", True, (255, 0, 0)),
    Category("car", True, (0, 0, 142)),
    Category("truck", True, (0, 0, 70)),
    Category("bus", True, (0, 60, 100)),
    Category("train", True, (0, 80, 100)),
    Category("motorcycle", True, (0, 0, 230)),
    Category("bicycle", True, (119, 11, 32)),
)

LAST_LABEL_ID = 33
INSTANCES_PER_LABEL = 1000
"""``instanceIds`` are the label id for stuff and for groups, and label id * 1000 + number for one instance."""

LEFT = "_leftImg8bit.png"


class CityscapesDataset:
    """Pictures ``**/*_leftImg8bit.png`` below ``images``, labels in the same subfolders below ``labels``.

    For the official layout these are ``leftImg8bit/<split>`` and ``gtFine/<split>``. Labels are read from
    ``*_gtFine_labelIds.png`` (uint8) and ``*_gtFine_instanceIds.png`` (uint16); classes that the benchmark does not
    evaluate are void and 255. A segment's id is its instance id; things labelled as a group are crowds.
    """

    def __init__(self, images: Path, labels: Path, name: str = "cityscapes") -> None:
        self.name = name
        self._images, self._labels = images, labels
        self._files = sorted(images.rglob(f"*{LEFT}"))
        if not self._files:
            raise DatasetError(f"Cityscapes: expected pictures *{LEFT} in {images}, found none")
        self._train_ids = np.full(256, IGNORE_LABEL, np.uint8)
        self._train_ids[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))

    @property
    def categories(self) -> tuple[Category, ...]:
        """The evaluated classes; a class's position is its train id."""
        return CATEGORIES

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        picture = self._files[index]
        image = read_image(picture)
        stem = picture.name.removesuffix(LEFT)
        folder = self._labels / picture.relative_to(self._images).parent
        labels = read_label_map(folder / f"{stem}_gtFine_labelIds.png", np.uint8, image.shape[:2])
        instance_file = folder / f"{stem}_gtFine_instanceIds.png"
        instances = read_label_map(instance_file, np.uint16, image.shape[:2])
        segments, panoptic = [], np.zeros(image.shape[:2], np.int32)
        for instance_id in np.unique(instances).tolist():
            label_id = instance_id // INSTANCES_PER_LABEL or instance_id
            if label_id > LAST_LABEL_ID:
                raise DatasetError(f"{instance_file}: expected label ids up to {LAST_LABEL_ID}, found {label_id}")
            if instance_id == VOID_ID or self._train_ids[label_id] == IGNORE_LABEL:
                continue
            category = CATEGORIES[self._train_ids[label_id]]
            mask = instances == instance_id
            panoptic[mask] = instance_id
            is_crowd = category.is_thing and instance_id < INSTANCES_PER_LABEL
            area = int(np.count_nonzero(mask))
            segments.append(
                Segment(instance_id, category.name, category.is_thing, mask_box(mask), area, is_crowd=is_crowd)
            )
        return Sample(
            image=image,
            file_name=picture.relative_to(self._images).as_posix(),
            image_id=index + 1,
            panoptic=panoptic,
            segments=tuple(segments),
            semantic=self._train_ids[labels],
        )
