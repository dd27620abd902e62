"""COCO's detection and panoptic formats (Lin et al., ECCV 2014; Kirillov et al., CVPR 2019)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from models.datasets.coco_format import (
    ImageEntry,
    InstanceEntry,
    InstancesFile,
    PanopticFile,
    RunLengths,
    SegmentEntry,
    categories_of,
    check_references,
    corners,
    pictures_present,
)
from models.datasets.files import inside, read_image, read_json
from models.datasets.sample import IGNORE_LABEL, VOID_ID, Category, DatasetError, Sample, Segment


class CocoPanopticDataset:
    """Panoptic truth: a JSON file and a folder of PNG files whose pixels are R + 256 G + 65536 B = segment id.

    Holds the images whose picture is in ``images``. The train ids of a sample's ``semantic`` map are the categories'
    positions in the file; void is 255. Raises DatasetError where the files contradict the format or each other.
    """

    def __init__(self, annotations: Path, panoptic: Path, images: Path, name: str = "coco_panoptic") -> None:
        content = read_json(annotations, PanopticFile)
        self.name = name
        self._file, self._folder = annotations, panoptic
        self._by_id = categories_of(annotations, content.categories)
        self._train_ids = {category_id: index for index, category_id in enumerate(self._by_id)}
        self._videos = {video.id: video.name for video in content.videos}
        self._labels = {entry.image_id: entry for entry in content.annotations}
        self._images = pictures_present(annotations, content.images, images)
        used = (segment.category_id for entry in content.annotations for segment in entry.segments_info)
        check_references(annotations, used, self._by_id)
        unlabelled = [entry.id for entry, _ in self._images if entry.id not in self._labels]
        if unlabelled:
            raise DatasetError(
                f"{annotations}: expected an annotation for every image, found none for {unlabelled[:10]}"
            )

    @property
    def categories(self) -> tuple[Category, ...]:
        """The file's categories in its order."""
        return tuple(self._by_id.values())

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        entry, picture = self._images[index]
        image = _picture(entry, picture)
        labels = self._labels[entry.id]
        panoptic = _read_ids(inside(self._folder, labels.file_name, self._file), image.shape[:2])
        semantic = np.full(panoptic.shape, IGNORE_LABEL, np.uint8)
        for segment in labels.segments_info:
            semantic[panoptic == segment.id] = self._train_ids[segment.category_id]
        sample = Sample(
            image=image,
            file_name=entry.file_name,
            image_id=entry.id,
            panoptic=panoptic,
            segments=tuple(_segment(segment.id, segment, self._by_id) for segment in labels.segments_info),
            semantic=semantic,
            video=self._videos.get(entry.video_id) if entry.video_id is not None else None,
            frame_index=entry.frame_index,
        )
        sample.check_pixels()
        return sample


class CocoInstancesDataset:
    """Detection truth: a JSON file with a polygon or run-length mask for every instance.

    Holds the images whose picture is in ``images``. A sample has one mask a segment, because instances may overlap, and
    neither a panoptic nor a semantic map; segment ids count from 1 in every image.
    """

    def __init__(self, annotations: Path, images: Path, name: str = "coco_instances") -> None:
        content = read_json(annotations, InstancesFile)
        self.name = name
        self._file = annotations
        self._by_id = categories_of(annotations, content.categories)
        self._videos = {video.id: video.name for video in content.videos}
        self._images = pictures_present(annotations, content.images, images)
        check_references(annotations, (entry.category_id for entry in content.annotations), self._by_id)
        self._instances: dict[int, list[InstanceEntry]] = defaultdict(list)
        for instance in content.annotations:
            self._instances[instance.image_id].append(instance)

    @property
    def categories(self) -> tuple[Category, ...]:
        """The file's categories in its order."""
        return tuple(self._by_id.values())

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        entry, picture = self._images[index]
        image = _picture(entry, picture)
        instances = self._instances.get(entry.id, [])
        return Sample(
            image=image,
            file_name=entry.file_name,
            image_id=entry.id,
            segments=tuple(
                _segment(number, instance, self._by_id) for number, instance in enumerate(instances, start=1)
            ),
            masks=tuple(_decode(instance, image.shape[:2], self._file) for instance in instances),
            video=self._videos.get(entry.video_id) if entry.video_id is not None else None,
            frame_index=entry.frame_index,
        )


def _segment(identifier: int, entry: SegmentEntry | InstanceEntry, categories: Mapping[int, Category]) -> Segment:
    category = categories[entry.category_id]
    return Segment(
        id=identifier,
        category=category.name,
        is_thing=category.is_thing,
        box=corners(entry.bbox),
        area=entry.area,
        track_id=entry.track_id,
        attributes=entry.attributes,
        is_crowd=entry.iscrowd,
    )


def _picture(entry: ImageEntry, path: Path) -> NDArray[np.uint8]:
    image = read_image(path)
    if image.shape[:2] != (entry.height, entry.width):
        raise DatasetError(
            f"{path}: expected {entry.width} x {entry.height} pixels as listed, "
            f"found {image.shape[1]} x {image.shape[0]}"
        )
    return image


def _read_ids(path: Path, shape: tuple[int, int]) -> NDArray[np.int32]:
    """A panoptic PNG as segment ids int32 [H, W]."""
    colours = read_image(path)
    if colours.shape[:2] != shape:
        raise DatasetError(f"{path}: expected a panoptic map of shape {shape}, found {colours.shape[:2]}")
    red, green, blue = (channel.astype(np.int32) for channel in cv2.split(colours))
    return np.asarray(red + (green << 8) + (blue << 16), np.int32)


def _decode(entry: InstanceEntry, shape: tuple[int, int], path: Path) -> NDArray[np.bool_]:
    """The mask of an instance, bool [H, W]; the parts of a polygon annotation are united."""
    height, width = shape
    where = f"{path}: image {entry.image_id}, category {entry.category_id}"
    filling = f"expected run lengths that fill {width} x {height} pixels"
    if isinstance(entry.segmentation, RunLengths):
        if entry.segmentation.size != shape:
            raise DatasetError(f"{where}: expected run lengths of size {shape}, found {entry.segmentation.size}")
        runs = entry.segmentation.model_dump()
        if isinstance(runs["counts"], list):
            runs = coco_mask.frPyObjects(runs, height, width)
    else:
        if any(len(polygon) % 2 for polygon in entry.segmentation):
            raise DatasetError(f"{where}: expected polygons of x, y pairs, found an odd number of coordinates")
        if not entry.segmentation:
            return np.zeros(shape, bool)
        runs = coco_mask.merge(coco_mask.frPyObjects(entry.segmentation, height, width))
    try:
        mask = coco_mask.decode(runs)
    except ValueError as error:
        raise DatasetError(f"{where}: {filling}, found: {error}") from None
    # Run lengths that end too early leave the rest of the decoder's memory as it was.
    if mask.max(initial=VOID_ID) > 1 or mask.sum(dtype=np.int64) != int(coco_mask.area(runs)):
        raise DatasetError(f"{where}: {filling}, found too few")
    return np.asarray(mask, bool)
