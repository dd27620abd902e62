"""A COCO file of a video: images, categories, and things with their identities over time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from perception import codecs, convert
from perception.v1 import perception_pb2

from services.camera.gateway_stream import SentFrame
from services.camera.sinks.base import Answer
from services.camera.sinks.records import to_record


class CocoVideoFile:
    """Writes the file whole when it is closed; until then its parts lie beside it, so memory does not grow with it.

    The format is COCO's with `videos`, `video_id` and `frame_index` on images, and `track_id` and `instance_id` on
    annotations: a track's id counts within one epoch of the stream, `instance_id` over the whole file.
    """

    def __init__(self, camera: str, path: Path) -> None:
        self._camera = camera
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._parts = {name: path.with_name(f".{path.name}.{name}") for name in ("images", "annotations")}
        self._files = {name: part.open("w+", encoding="utf-8") for name, part in self._parts.items()}
        self._images = self._annotations = self._instances = 0
        self._size = (0, 0)
        self._categories: dict[int, dict[str, Any]] = {}
        self._epoch = 0
        self._instance_of: dict[int, int] = {}

    def add(self, answer: Answer, sent: SentFrame) -> None:
        """Adds a frame that has a scene."""
        if not answer.HasField("scene"):
            return
        if answer.epoch != self._epoch:  # one that is over never comes back
            self._epoch, self._instance_of = answer.epoch, {}
        scene = answer.scene
        height, width = self._size = (scene.image_size.height, scene.image_size.width)
        self._images += 1
        self._write(
            "images",
            {
                "id": self._images,
                "file_name": f"{self._camera}/{answer.sequence:08d}.jpg",
                "width": width,
                "height": height,
                "video_id": 1,
                "frame_index": self._images - 1,
                "date_captured": to_record(self._camera, answer, sent)["capture_time"],
            },
        )
        for annotation in self._things(scene, height, width):
            self._annotations += 1
            self._write("annotations", {"id": self._annotations, "image_id": self._images, **annotation})

    def close(self) -> None:
        """Puts the parts together; the file is there whole or not at all."""
        height, width = self._size
        video = {"id": 1, "name": self._camera, "width": width, "height": height, "length": self._images}
        whole = self._path.with_name(f".{self._path.name}.tmp")
        with whole.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"info": {"description": f"camera {self._camera}"}, "licenses": []})[:-1])
            file.write(f', "videos": {json.dumps([video])}')
            file.write(f', "categories": {json.dumps([entry for _, entry in sorted(self._categories.items())])}')
            for name, part in self._files.items():
                file.write(f', "{name}": [')
                _copy_lines(part, file)
                file.write("]")
            file.write("}")
        whole.replace(self._path)
        for name, part in self._files.items():
            part.close()
            with suppress(FileNotFoundError):
                self._parts[name].unlink()

    def _write(self, name: str, entry: dict[str, Any]) -> None:
        self._files[name].write(json.dumps(entry) + "\n")

    def _things(self, scene: perception_pb2.PerceiveResponse, height: int, width: int) -> Iterator[dict[str, Any]]:
        things = [segment for segment in scene.panoptic.segments if segment.is_thing]
        if not things:
            return
        ids = convert.panoptic_from_message(scene.panoptic).ids
        if ids.shape != (height, width):
            ids = cv2.resize(ids.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int32)
        for segment in things:
            self._categories.setdefault(
                segment.category_id, {"id": segment.category_id, "name": segment.category, "isthing": 1}
            )
            mask = ids == segment.id
            box = segment.box
            yield {
                "video_id": 1,
                "category_id": segment.category_id,
                "bbox": [box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "score": segment.score,
                "segmentation": {"size": [height, width], "counts": codecs.encode_rle(mask).decode("ascii")},
                **self._identity(segment),
            }

    def _identity(self, segment: perception_pb2.Segment) -> dict[str, int]:
        if not segment.HasField("track"):
            return {}
        if segment.track.id not in self._instance_of:
            self._instances += 1
            self._instance_of[segment.track.id] = self._instances
        return {"track_id": segment.track.id, "instance_id": self._instance_of[segment.track.id]}


def _copy_lines(part: TextIO, file: TextIO) -> None:
    part.seek(0)
    for number, line in enumerate(part):
        file.write((", " if number else "") + line.rstrip("\n"))
