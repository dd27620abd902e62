"""Exported graphs in ONNX Runtime against the torch models they came from, on the same picture.

The models are untrained: seeds make them reproducible, and their random class scores are spread widely enough for many
detections. What is compared is the whole answer after each model's own post-processing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.catalog.schema import Entry, load_labels
from models.export.build import MissingPackageError, build_model
from tests.models.export.support import entry, iou, made_picture, run

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

WIDTH, HEIGHT = 160, 128
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def planes(picture: NDArray[np.uint8]) -> Any:
    return torch.from_numpy(picture / np.float32(255)).permute(2, 0, 1)


def agree(outputs: dict[str, NDArray[Any]], expected: dict[str, Any], classes: NDArray[np.int64]) -> None:
    """Rows are the torch model's: same boxes within 0.05 px, scores within 1e-3, classes, and masks within a level."""
    count = int(outputs["num_detections"][0])
    assert count == len(expected["boxes"]) > 10
    boxes, scores = expected["boxes"].numpy(), expected["scores"].numpy()
    overlap = iou(boxes, outputs["detection_boxes"][:count])
    overlap[classes[expected["labels"].numpy()][:, None] != outputs["detection_classes"][:count]] = 0
    overlap[np.abs(scores[:, None] - outputs["detection_scores"][:count]) > 1e-3] = 0
    rows = overlap.argmax(axis=1)
    # Equal scores may change places, and rounding decides a suppression now and then.
    matched = overlap.max(axis=1) > 0.99
    assert matched.mean() > 0.95
    assert np.abs(boxes[matched] - outputs["detection_boxes"][rows[matched]]).max() < 0.05
    assert not outputs["detection_scores"][count:].any()
    assert not outputs["detection_boxes"][count:].any()
    if "detection_masks" in outputs:
        levels = outputs["detection_masks"][rows[matched]].astype(float)
        probability = expected["masks"].numpy()[matched][:, 0] * 255
        assert np.quantile(np.abs(levels - probability), 0.999) <= 1
        assert levels.std() > 1, "masks that are all alike tell nothing"


def own_answer(model: Any, picture: NDArray[np.uint8]) -> dict[str, Any]:
    """torchvision's detections on the picture as it is, masks before they are pasted."""
    transform = model.transform
    transform.min_size, transform.max_size = (min(picture.shape[:2]),), max(picture.shape[:2])
    pasted = transform.postprocess
    transform.postprocess = lambda result, *_: result
    with torch.no_grad():
        answer = model([planes(picture)])[0]
    transform.postprocess = pasted
    return answer


@pytest.mark.parametrize("family", ["faster_rcnn", "mask_rcnn"])
def test_the_project_s_two_stage_detectors_answer_as_in_torch(family: str) -> None:
    from models.architectures.trained import build_model as build_architecture
    from models.export.torchvision_detection import export_model

    mask_size = 28 if family == "mask_rcnn" else 0
    described = entry(
        task="instance_segmentation" if mask_size else "detection",
        adapter="trained",
        image={"resize": "letterbox", "width": WIDTH, "height": HEIGHT},
        labels=("a", "b", "c"),
        head={"kind": "two_stage", "mask_size": mask_size, "score_threshold": 0.05, "max_detections": 60},
    )
    torch.manual_seed(0)
    model = build_architecture(family, 3, {"input_size": [WIDTH, HEIGHT]}).eval()
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.5)
    classes = np.array([0, 0, 1, 2])
    graph = export_model(model, described, torch.from_numpy(classes))
    picture = made_picture(HEIGHT, WIDTH)
    agree(run(graph, image=picture), own_answer(model, picture), classes)
    agree(run(graph, image=picture[::-1]), own_answer(model, picture[::-1].copy()), classes)


def test_torchvision_s_mask_rcnn_takes_pictures_of_any_size(tmp_path: Path) -> None:
    from torchvision.models import detection, get_model_weights

    from models.export.torchvision_detection import class_of_label, export

    coco = load_labels("coco80")
    described = entry(
        task="instance_segmentation",
        adapter="torchvision_detection",
        architecture="maskrcnn_resnet50_fpn",
        image={"resize": "shortest_edge", "shortest_edge": 128, "longest_edge": 256},
        labels=coco,
        head={"kind": "two_stage", "mask_size": 28, "score_threshold": 0.01},
    )
    torch.manual_seed(0)
    model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    torch.save(model.state_dict(), tmp_path / "mask_rcnn.pth")
    graph = export(described, tmp_path / "mask_rcnn.pth")
    categories = get_model_weights("maskrcnn_resnet50_fpn").DEFAULT.meta["categories"]
    classes = class_of_label(categories, described)
    assert [coco[classes[categories.index(name)]] for name in ("person", "toothbrush")] == ["person", "toothbrush"]
    model.roi_heads.score_thresh = 0.01
    for picture in (made_picture(128, 150), made_picture(170, 128)):
        agree(run(graph, image=picture), own_answer(model, picture), classes.numpy())
    with pytest.raises(ValueError, match="expected the 80 labels of torchvision, found 2 others"):
        class_of_label(categories, entry())
    with pytest.raises(ValueError, match="expected an architecture of fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn"):
        export(described.model_copy(update={"architecture": "retinanet"}), tmp_path / "mask_rcnn.pth")


def test_an_empty_picture_has_rows_of_zeros() -> None:
    from models.architectures.trained import build_model as build_architecture
    from models.export.torchvision_detection import export_model

    described = entry(
        adapter="trained",
        image={"resize": "letterbox", "width": WIDTH, "height": HEIGHT},
        head={"kind": "two_stage", "score_threshold": 0.9},
    )
    torch.manual_seed(0)
    model = build_architecture("faster_rcnn", 2, {"input_size": [WIDTH, HEIGHT]})
    outputs = run(export_model(model, described, torch.tensor([0, 0, 1])), image=made_picture(HEIGHT, WIDTH))
    assert outputs["num_detections"].tolist() == [0]
    assert outputs["detection_boxes"].shape == (100, 4)
    assert not outputs["detection_boxes"].any()


def surfaces(**fields: Any) -> Entry:
    return entry(
        task="semantic_segmentation",
        image={"resize": "stretch", "width": WIDTH, "height": HEIGHT},
        pixels=IMAGENET,
        labels=("a", "b", "c"),
        head={"kind": "semantic"},
        **fields,
    )


def check_surfaces(graph: onnx.ModelProto, model: Any) -> None:
    batch = np.stack([made_picture(HEIGHT, WIDTH), 255 - made_picture(HEIGHT, WIDTH)])
    outputs = run(graph, image=batch)
    with torch.no_grad():
        normalised = torch.stack([planes(picture) for picture in batch]) - torch.tensor(IMAGENET["mean"])[:, None, None]
        confidence, best = model(normalised / torch.tensor(IMAGENET["std"])[:, None, None]).softmax(dim=1).max(dim=1)
    assert (outputs["class_map"] == best.numpy()).mean() > 0.999
    assert np.abs(outputs["class_confidence"] - confidence.numpy() * 255).max() < 1
    assert len(np.unique(best)) == 3, "one class everywhere tells nothing"


def test_a_public_bisenet_checkpoint_answers_as_in_torch(tmp_path: Path) -> None:
    from models.architectures.bisenet import BiSeNet

    torch.manual_seed(0)
    model = BiSeNet(3).eval()
    torch.nn.init.normal_(model.conv_out.conv_out.weight, std=1.0)
    torch.save(model.state_dict(), tmp_path / "bisenet.pth")
    check_surfaces(build_model(surfaces(adapter="bisenet", fp16_weights=False), tmp_path / "bisenet.pth"), model)


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "resnet18"])
def test_torchvision_s_classifiers_answer_as_in_torch(tmp_path: Path, architecture: str) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    model = get_model(architecture, weights=None, num_classes=4)
    batch = np.stack([made_picture(64, 64), 255 - made_picture(64, 64), made_picture(64, 64)[::-1]])
    mean, std = (torch.tensor(IMAGENET[key])[:, None, None] for key in ("mean", "std"))
    pictures = (torch.stack([planes(picture) for picture in batch]) - mean) / std
    # Random layers let a signal fade: batch normalisation is given the statistics of these pictures, and the last layer
    # weights that tell them apart.
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        model.train()(pictures)
        last.weight /= model.eval()(pictures).std(dim=0).mean()
        last.bias -= model(pictures).mean(dim=0)
    torch.save(model.state_dict(), tmp_path / "classifier.pth")
    described = entry(
        task="classification",
        adapter="torchvision_classifier",
        architecture=architecture,
        image={"resize": "stretch", "width": 64, "height": 64},
        pixels=IMAGENET,
        labels=("a", "b", "c", "d"),
        head={"kind": "classifier", "output": "logits"},
        fp16_weights=False,
    )
    found = run(build_model(described, tmp_path / "classifier.pth"), image=batch)["probabilities"]
    with torch.no_grad():
        expected = model(pictures).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.01, "answers that are all alike tell nothing"
    with pytest.raises(ValueError, match=rf"classifier\.pth does not fit {architecture}"):
        build_model(described.model_copy(update={"labels": ("a", "b")}), tmp_path / "classifier.pth")


def trained(tmp_path: Path, architecture: str, labels: tuple[str, ...], **options: Any) -> tuple[Any, Path]:
    """A run's `model.pt`, untrained."""
    from models.architectures.trained import TrainedModel, save_trained
    from models.architectures.trained import build_model as build_architecture

    torch.manual_seed(0)
    model = build_architecture(architecture, len(labels), options).eval()
    path = tmp_path / "model.pt"
    save_trained(
        TrainedModel(
            model=model,
            architecture=architecture,
            options=options,
            labels=labels,
            input_size=(WIDTH, HEIGHT),
            run="made",
            step=0,
            metrics={},
            **(IMAGENET if architecture in ("bisenet", "classifier") else {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        ),
        path,
    )
    return model, path


def test_a_trained_bisenet_is_exported_from_its_run_and_taken_as_bundled(tmp_path: Path) -> None:
    options = {"widths": (16, 32, 48, 64), "spatial_channels": 16}
    model, path = trained(tmp_path, "bisenet", ("a", "b", "c"), **options)
    described = surfaces(adapter="trained", architecture="bisenet", fp16_weights=False)
    graph = build_model(described, path)
    torch.manual_seed(1)
    with torch.no_grad():
        outputs = run(graph, image=made_picture(HEIGHT, WIDTH)[None])
        mean, std = (torch.tensor(IMAGENET[key])[:, None, None] for key in ("mean", "std"))
        logits = model((planes(made_picture(HEIGHT, WIDTH)) - mean)[None] / std)
    assert (outputs["class_map"] == logits.argmax(dim=1).numpy()).mean() > 0.999
    onnx.save(graph, tmp_path / "bundled.onnx")
    assert build_model(described, tmp_path / "bundled.onnx") == graph


@pytest.mark.parametrize(
    ("architecture", "head", "options"),
    [
        ("yolo", {"kind": "yolo", "layout": "yolov8"}, {}),
        ("faster_rcnn", {"kind": "two_stage"}, {"input_size": [WIDTH, HEIGHT]}),
        ("mask_rcnn", {"kind": "two_stage", "mask_size": 28}, {"input_size": [WIDTH, HEIGHT]}),
        ("classifier", {"kind": "classifier", "output": "logits"}, {}),
    ],
)
def test_every_trained_architecture_becomes_a_contract_model(
    tmp_path: Path, architecture: str, head: dict[str, Any], options: dict[str, Any]
) -> None:
    if architecture == "yolo":
        pytest.importorskip("ultralytics")
    _, path = trained(tmp_path, architecture, ("a", "b"), **options)
    task = {"mask_rcnn": "instance_segmentation", "classifier": "classification"}.get(architecture, "detection")
    fields: dict[str, Any] = {
        "task": task,
        "adapter": "trained",
        "architecture": architecture,
        "image": {"resize": "stretch", "width": WIDTH, "height": HEIGHT},
        "labels": ("a", "b"),
        "head": head,
        "pixels": IMAGENET if architecture == "classifier" else {},
    }
    picture = made_picture(HEIGHT, WIDTH)
    graph = build_model(entry(**fields), path)
    outputs = run(graph, image=picture if head["kind"] == "two_stage" else picture[None])
    assert all(np.isfinite(values).all() for values in outputs.values())
    with pytest.raises(ValueError, match=r"run made does not fit the entry: labels: expected .*'c'.*, found .*'b'"):
        build_model(entry(**fields | {"labels": ("a", "c")}), path)


def test_a_missing_package_is_named_with_how_to_install_it(tmp_path: Path) -> None:
    try:
        import detectron2  # noqa: F401
    except ImportError:
        described = entry(adapter="detectron2", head={"kind": "two_stage"})
        with pytest.raises(MissingPackageError, match=r"needs the package 'detectron2'.*facebookresearch/detectron2"):
            build_model(described, tmp_path / "model.pkl")
    else:
        pytest.skip("detectron2 is installed here")
