"""Procedural sequences as files: JPEG frames with COCO labels, or a film.

Layout of an export::

    images/<sequence>/<frame>.jpg     frames, RGB
    panoptic/<sequence>/<frame>.png   segment ids as R + 256 G + 65536 B
    panoptic.json                     COCO panoptic
    instances.json                    COCO detection: things with run-length masks
    video.json                        COCO video: videos, images with frame_index, annotations with track_id
    categories.json                   the demo categories in the order of their train ids
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from models.datasets.sample import Sample, Segment
from models.datasets.scenes.categories import CATEGORIES, TRAIN_IDS
from models.datasets.scenes.sequence import SceneSequence
from models.datasets.scenes.world import FRAMES_PER_SECOND

JPEG_QUALITY = 95


def export_coco(sequences: Iterable[SceneSequence], folder: Path) -> Iterator[Sample]:
    """Write sequences with all their labels into ``folder``; yields every sample once it is written.

    The label files are written when the last sample has been taken. COCO category ids are train ids + 1.
    """
    labels = _Labels()
    for sequence in sequences:
        video_id = labels.add_video(sequence)
        for sample in sequence:
            image = folder / "images" / sample.file_name
            panoptic = (folder / "panoptic" / sample.file_name).with_suffix(".png")
            image.parent.mkdir(parents=True, exist_ok=True)
            panoptic.parent.mkdir(parents=True, exist_ok=True)
            _write_image(image, sample.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            _write_image(panoptic, _panoptic_colours(sample), [])
            labels.add(sample, video_id)
            yield sample
    for name, content in labels.files().items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def export_film(sequence: SceneSequence, path: Path) -> Iterator[Sample]:
    """Write a sequence as H.264 film at 25 frames a second; yields every sample once it is encoded.

    Raises ValueError where width or height is odd, which the encoder's 4:2:0 colour cannot hold.
    """
    import av

    width, height = sequence.size
    if width % 2 or height % 2:
        raise ValueError(f"film: expected an even width and height, found {width} x {height}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for sample in sequence:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(sample.image, format="rgb24")))
            yield sample
        container.mux(stream.encode(None))


class _Labels:
    """Collects the entries of all label files; ids count over all sequences."""

    def __init__(self) -> None:
        self._videos: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._panoptic: list[dict[str, Any]] = []
        self._instances: list[dict[str, Any]] = []

    def add_video(self, sequence: SceneSequence) -> int:
        video_id = len(self._videos) + 1
        width, height = sequence.size
        self._videos.append(
            {"id": video_id, "name": sequence.name, "width": width, "height": height, "length": len(sequence)}
        )
        return video_id

    def add(self, sample: Sample, video_id: int) -> None:
        image_id = len(self._images) + 1
        width, height = sample.size
        self._images.append(
            {
                "id": image_id,
                "file_name": sample.file_name,
                "width": width,
                "height": height,
                "video_id": video_id,
                "frame_index": sample.frame_index,
            }
        )
        self._panoptic.append(
            {
                "image_id": image_id,
                "file_name": Path(sample.file_name).with_suffix(".png").as_posix(),
                "segments_info": [{"id": segment.id, **_segment(segment)} for segment in sample.segments],
            }
        )
        for segment in sample.things:
            runs = coco_mask.encode(np.asfortranarray(sample.mask(segment), np.uint8))
            entry = {"id": len(self._instances) + 1, "image_id": image_id, "video_id": video_id, **_segment(segment)}
            entry["segmentation"] = {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")}
            self._instances.append(entry)

    def files(self) -> dict[str, Any]:
        categories = [
            {"id": index + 1, "name": entry.name, "isthing": int(entry.is_thing), "color": list(entry.colour)}
            for index, entry in enumerate(CATEGORIES)
        ]
        things = [entry for entry in categories if entry["isthing"]]
        info = {"description": "procedural scenes of a street and a conveyor line"}
        common = {"info": info, "licenses": [], "images": self._images, "videos": self._videos}
        return {
            "panoptic.json": {**common, "categories": categories, "annotations": self._panoptic},
            "instances.json": {**common, "categories": things, "annotations": self._instances},
            "video.json": {**common, "categories": things, "annotations": self._tracked()},
            "categories.json": categories,
        }

    def _tracked(self) -> list[dict[str, Any]]:
        """The instances with ``instance_id``, which tells objects apart over all videos."""
        numbers: dict[tuple[int, int], int] = {}
        return [
            {**entry, "instance_id": numbers.setdefault((entry["video_id"], entry["track_id"]), len(numbers) + 1)}
            for entry in self._instances
        ]


def _segment(segment: Segment) -> dict[str, Any]:
    x0, y0, x1, y1 = segment.box
    entry: dict[str, Any] = {
        "category_id": TRAIN_IDS[segment.category] + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": segment.area,
        "iscrowd": int(segment.is_crowd),
    }
    if segment.track_id is not None:
        entry |= {"track_id": segment.track_id, "attributes": dict(segment.attributes)}
    return entry


def _panoptic_colours(sample: Sample) -> NDArray[np.uint8]:
    """The panoptic map as COCO's RGB picture uint8 [H, W, 3]."""
    if sample.panoptic is None:
        raise ValueError(f"sample {sample.file_name!r}: expected a panoptic map, found none")
    return np.stack([(sample.panoptic >> shift & 255).astype(np.uint8) for shift in (0, 8, 16)], axis=-1)


def _write_image(path: Path, image: NDArray[np.uint8], options: list[int]) -> None:
    encoded, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not encoded:
        raise OSError(f"{path}: the picture could not be encoded")
    path.write_bytes(content.tobytes())
