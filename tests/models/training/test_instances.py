"""Instances out of panoptic maps, and average precision on cases whose answer is known."""

import numpy as np
import pytest

pytest.importorskip("torch")

from pycocotools import mask as rle

from models.training.instances import CocoValidation, Detections, instances_in

SEGMENTS = {
    1: {"category": 0, "is_crowd": False, "attributes": {}},  # stuff
    7: {"category": 5, "is_crowd": False, "attributes": {}},
    8: {"category": 6, "is_crowd": True, "attributes": {}},
    9: {"category": 6, "is_crowd": False, "attributes": {}},
}


def truth(frames):
    """The truth of the validation frames as if a model had found it."""
    found = []
    for panoptic, segments in zip(frames.panoptic, frames.segments, strict=True):
        things = instances_in(panoptic, segments, frames.things, smallest_area=1)
        masks = [rle.encode(np.asfortranarray(mask)) for mask in things.masks]
        found.append(Detections(things.boxes, np.ones(len(masks), np.float32), things.classes, masks))
    return found


def test_only_countable_segments_of_some_size_are_instances():
    panoptic = np.ones((20, 20), np.int32)
    panoptic[2:6, 3:9] = 7
    panoptic[10:16, 10:16] = 8
    panoptic[0, 0:3] = 9
    things = instances_in(panoptic, SEGMENTS, things=(5, 6))
    assert things.boxes.tolist() == [[3, 2, 9, 6]]
    assert things.classes.tolist() == [0]
    assert things.masks.sum() == 24


def test_picture_without_things_has_empty_arrays_of_the_right_shapes():
    things = instances_in(np.zeros((4, 6), np.int32), SEGMENTS, things=(5, 6))
    assert (things.boxes.shape, things.classes.shape, things.masks.shape) == ((0, 4), (0,), (0, 4, 6))


@pytest.mark.parametrize("masks", [False, True])
def test_the_truth_itself_has_precision_one(frames, masks):
    validation = frames["validation"]
    metrics = CocoValidation(validation).average_precision(truth(validation), masks=masks)
    assert len(metrics) > 3
    assert set(metrics.values()) == {1.0}


def test_wrong_classes_and_moved_boxes_cost_precision(frames):
    validation = frames["validation"]
    coco = CocoValidation(validation)
    found = truth(validation)
    moved = [Detections(d.boxes + (d.boxes[:, 2:3] - d.boxes[:, :1]) * 0.2, d.scores, d.classes) for d in found]
    renamed = [Detections(d.boxes, d.scores, (d.classes + 1) % len(validation.things)) for d in found]
    assert 0 < coco.average_precision(moved, masks=False)["box_AP"] < 0.6
    assert coco.average_precision(renamed, masks=False)["box_AP"] < 0.2
    nothing = [Detections(d.boxes[:0], d.scores[:0], d.classes[:0]) for d in found]
    assert coco.average_precision(nothing, masks=False) == {"box_AP": 0.0, "box_AP50": 0.0}
