"""The graft against ultralytics' own predictions: of the published ONNX files, and of its models."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.catalog.schema import load_entry
from models.export.build import build_model
from models.export.weights import resolve_weights
from tests.models.export.support import entry, iou, letterbox, made_picture, read_rgb, run

torch = pytest.importorskip("torch")
pytest.importorskip("ultralytics")
os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_CONFIG_DIR": tempfile.gettempdir()}

WIDTH, HEIGHT = 160, 128
SCORE = 0.3


def photos(data: Path) -> list[Path]:
    return [
        *sorted((data / "images" / "street_photos").iterdir()),
        *sorted((data / "images" / "coco_val2017_100").glob("*.jpg"))[::10],
    ]


def masks_in_input(masks: NDArray[np.uint8], boxes: NDArray[Any]) -> NDArray[np.bool_]:
    """Box-relative masks on the pixels of the input [n,640,640], nearest cell."""
    centres = np.arange(640) + 0.5
    pasted = np.zeros((len(masks), 640, 640), bool)
    for index, (mask, (left, top, right, bottom)) in enumerate(zip(masks, boxes, strict=True)):
        rows, columns = ((centres - top) / (bottom - top), (centres - left) / (right - left))
        inside = (rows > 0) & (rows < 1), (columns > 0) & (columns < 1)
        cells = [(part[within] * len(mask)).astype(int) for part, within in zip((rows, columns), inside, strict=True)]
        pasted[index][np.ix_(*inside)] = mask[np.ix_(*cells)] > 127
    return pasted


@pytest.mark.parametrize("name", ["yolov8n_coco", "yolov8n_seg_coco"])
def test_the_graft_finds_what_ultralytics_predicts_with_the_same_file(
    name: str, perception_data: Path, tmp_path: Path
) -> None:
    from ultralytics import YOLO

    catalogued = load_entry(name)
    weights = resolve_weights(catalogued.source)
    model = build_model(catalogued, weights)
    has_masks = catalogued.task == "instance_segmentation"
    # This version of ultralytics wants a number there.
    network = onnx.load(weights)
    next(entry for entry in network.metadata_props if entry.key == "batch").value = "1"
    onnx.save(network, tmp_path / "network.onnx")
    upstream = YOLO(str(tmp_path / "network.onnx"), task="segment" if has_masks else "detect")
    expected, matched, mask_overlaps = 0, 0, []
    for path in photos(perception_data):
        # Both see the same pixels, so that the comparison is of the graph and not of two ways to resize.
        picture = letterbox(read_rgb(path), 640, 640)
        answer = upstream.predict(picture[..., ::-1], conf=SCORE, iou=0.7, imgsz=640, verbose=False)[0]
        boxes = answer.boxes.xyxy.numpy()
        outputs = {key: value[0] for key, value in run(model, image=picture[None]).items()}
        overlap = iou(boxes, outputs["detection_boxes"])
        overlap[answer.boxes.cls.numpy()[:, None] != outputs["detection_classes"]] = 0
        overlap[np.abs(answer.boxes.conf.numpy()[:, None] - outputs["detection_scores"]) > 0.02] = 0
        expected += len(boxes)
        matched += int((overlap.max(axis=1) >= 0.9).sum())
        if has_masks and len(boxes):
            rows = overlap.argmax(axis=1)
            ours = masks_in_input(outputs["detection_masks"][rows], outputs["detection_boxes"][rows])
            theirs = answer.masks.data.numpy() > 0.5
            union = (ours | theirs).sum(axis=(1, 2))
            mask_overlaps += ((ours & theirs).sum(axis=(1, 2)) / np.maximum(union, 1)).tolist()
    print(f"{name}: {matched} of {expected} boxes; mask IoU {np.mean(mask_overlaps) if mask_overlaps else 0:.3f}")
    assert expected > 40
    assert matched >= 0.95 * expected
    if has_masks:
        assert np.mean(mask_overlaps) > 0.9


def untrained(variant: str, num_classes: int) -> Any:
    """A model with seeded weights whose scores differ from anchor to anchor.

    Random layers let a signal fade, until every anchor scores the same: batch normalisation is given the statistics of
    a picture, and the last layer of the class head weights that spread the scores.
    """
    from ultralytics.nn.tasks import DetectionModel, SegmentationModel

    torch.manual_seed(0)
    kind = SegmentationModel if variant.endswith("-seg") else DetectionModel
    model = kind(cfg=f"{variant}.yaml", nc=num_classes, verbose=False)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    picture = pixels(made_picture(HEIGHT, WIDTH))
    with torch.no_grad():
        model.train()(picture)
        logits = model.eval()(picture)[1]["scores"]
        for branch in model.model[-1].cv3:
            branch[-1].weight *= 2 / logits.std()
            branch[-1].bias.fill_(-2.0)
    return model


def pixels(picture: NDArray[np.uint8]) -> Any:
    return torch.from_numpy(picture / np.float32(255)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("variant", ["yolov8n", "yolo11n", "yolov8n-seg", "yolo11n-seg"])
def test_an_exported_model_answers_as_ultralytics_does(variant: str) -> None:
    from ultralytics.utils.nms import non_max_suppression

    from models.export.ultralytics_yolo import export_model

    mask_size = 20 if variant.endswith("-seg") else 0
    described = entry(
        task="instance_segmentation" if mask_size else "detection",
        adapter="ultralytics",
        image={"resize": "letterbox", "width": WIDTH, "height": HEIGHT},
        labels=("a", "b", "c"),
        head={"kind": "yolo", "layout": "yolov8", "max_detections": 100, "mask_size": mask_size},
    )
    model = untrained(variant, 3)
    picture = made_picture(HEIGHT, WIDTH)
    with torch.no_grad():
        answer = model(pixels(picture))[0]
        raw = answer[0] if mask_size else answer
        found = non_max_suppression(raw, 0.001, 0.7, multi_label=True, max_det=100, nc=3)[0].numpy()
    outputs = {
        key: value[1] for key, value in run(export_model(model, described), image=np.stack([picture] * 2)).items()
    }
    count = int(outputs["num_detections"][0])
    assert 20 < count == len(found)
    assert found[:, 4].max() > found[:, 4].min() + 0.3, "scores that are all alike tell nothing"
    expected = np.clip(found[:, :4], 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    overlap = iou(expected, outputs["detection_boxes"][:count])
    overlap[found[:, 5][:, None] != outputs["detection_classes"][:count]] = 0
    overlap[np.abs(found[:, 4][:, None] - outputs["detection_scores"][:count]) > 1e-3] = 0
    assert (overlap.max(axis=1) > 0.99).mean() > 0.97
    if mask_size:
        assert 0.05 < (outputs["detection_masks"][:count] > 127).mean() < 0.95


def test_a_checkpoint_file_is_exported_and_its_labels_checked(tmp_path: Path) -> None:
    from models.export.ultralytics_yolo import export

    model = untrained("yolov8n", 2)
    model.names = {0: "cat", 1: "dog"}
    torch.save({"model": model, "ema": None, "train_args": {}, "epoch": -1, "version": "8.4.190"}, tmp_path / "cats.pt")
    fields = {"adapter": "ultralytics", "image": {"resize": "letterbox", "width": 64, "height": 64}}
    outputs = run(export(entry(**fields), tmp_path / "cats.pt"), image=made_picture(64, 64)[None])
    assert outputs["num_detections"][0, 0] > 0
    with pytest.raises(
        ValueError, match=r"expected the 2 labels of the entry, found 2 in cats\.pt, different at 1 'dog'"
    ):
        export(entry(**fields, labels=("cat", "cow")), tmp_path / "cats.pt")


def test_a_model_for_another_task_is_refused() -> None:
    from models.export.ultralytics_yolo import export_model

    with pytest.raises(ValueError, match="expected a model for detection, found SegmentationModel"):
        export_model(untrained("yolov8n-seg", 2), entry(adapter="ultralytics"))
