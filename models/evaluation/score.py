"""How good the scenes of a `perception run` are, where the truth of its frames is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models.datasets.coco import CocoPanopticDataset
from models.datasets.sample import DatasetError, Sample
from models.evaluation.panoptic_quality import Labelling, Tally, compare


def score_run(truth: Path, run: Path) -> dict[str, Any]:
    """Return panoptic quality (Kirillov et al., CVPR 2019), 0..1, of each frame and of all together.

    truth: a folder as `models.datasets.scenes.export` writes it. run: the output folder of `perception run` over its
    frames, with `scenes.jsonl` and `panoptic/<frame>.png`. The answer's keys: `PQ`, `PQ_things`, `PQ_stuff`, and
    `frames`, PQ of all segments of a frame by the frame's name.

    Raises:
        DatasetError: a frame of the truth is missing in the run, or a map that a line speaks of.
    """
    dataset = CocoPanopticDataset(truth / "panoptic.json", truth / "panoptic", truth / "images")
    index = {category.name: position for position, category in enumerate(dataset.categories)}
    records = {record["frame"]: record for record in map(json.loads, (run / "scenes.jsonl").read_text().splitlines())}
    total, frames = Tally.empty(len(index)), {}
    for sample in (dataset[position] for position in range(len(dataset))):
        name = Path(sample.file_name).with_suffix("").as_posix().replace("/", "_")
        if name not in records:
            raise DatasetError(f"{run / 'scenes.jsonl'}: expected a line for frame {name}, found none")
        found = _found(run / "panoptic" / f"{name}.png", records[name], index)
        tally = compare(_truth(sample, index), found, len(index)).tally
        total += tally
        frames[name] = tally.pooled(index.values())
    things = [index[category.name] for category in dataset.categories if category.is_thing]
    stuff = [index[category.name] for category in dataset.categories if not category.is_thing]
    groups = {"PQ": [*things, *stuff], "PQ_things": things, "PQ_stuff": stuff}
    return {name: total.mean(group).get("PQ", 0.0) for name, group in groups.items()} | {"frames": frames}


def _truth(sample: Sample, index: dict[str, int]) -> Labelling:
    assert sample.panoptic is not None
    return Labelling(
        ids=sample.panoptic,
        categories={segment.id: index[segment.category] for segment in sample.segments},
        crowds=frozenset(segment.id for segment in sample.segments if segment.is_crowd),
    )


def _found(path: Path, record: dict[str, Any], index: dict[str, int]) -> Labelling:
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if ids is None:
        raise DatasetError(f"{path}: expected a map of segment ids, found none")
    categories = {segment["id"]: index[segment["category"]] for segment in record["segments"]}
    return Labelling(ids.astype(np.int64), categories)
