"""Building every architecture by name, and the file of a trained model."""

import pytest

torch = pytest.importorskip("torch")

from models.architectures.trained import ARCHITECTURES, TrainedModel, build_model, load_trained, save_trained  # noqa: E402

OPTIONS = {
    "bisenet": {"widths": [8, 8, 16, 16], "spatial_channels": 8},
    "yolo": {},
    "mask_rcnn": {"input_size": [96, 64], "widths": [8, 8, 16, 16], "pyramid_channels": 16, "mask_head_channels": [16]},
    "faster_rcnn": {"input_size": [96, 64], "widths": [8, 8, 16, 16], "pyramid_channels": 16},
    "classifier": {"widths": [8, 8, 16, 16]},
}
IMAGES = torch.rand(2, 3, 64, 96)


def trained(architecture, labels=("cat", "dog", "cow")):
    torch.manual_seed(0)
    model = build_model(architecture, len(labels), OPTIONS[architecture]).eval()
    return TrainedModel(
        model, architecture, OPTIONS[architecture], labels, (96, 64), (0.5,) * 3, (0.2,) * 3, "test", 7, {"mIoU": 0.5}
    )


def answer(model):
    with torch.inference_mode():
        return model(list(IMAGES) if hasattr(model, "rpn") else IMAGES)


def flatten(value):
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in flatten(part)]


def test_there_are_options_for_every_architecture():
    assert set(OPTIONS) == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_model_answers_the_same(architecture, tmp_path):
    before = trained(architecture)
    save_trained(before, tmp_path / "model.pt")
    after = load_trained(tmp_path / "model.pt")
    assert not after.model.training
    assert {n: v for n, v in vars(after).items() if n != "model"} == {
        n: v for n, v in vars(before).items() if n != "model"
    }
    expected, found = flatten(answer(before.model)), flatten(answer(after.model))
    assert len(expected) == len(found)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_shapes_of_the_answers():
    assert answer(trained("classifier").model).shape == (2, 3)
    predictions, *_ = answer(trained("yolo").model)
    assert predictions.shape == (2, 4 + 3, 8 * 12 + 4 * 6 + 2 * 3)
    found = answer(trained("mask_rcnn").model)
    assert {"boxes", "labels", "scores", "masks"} == set(found[0])
    assert {"boxes", "labels", "scores"} == set(answer(trained("faster_rcnn").model)[0])


def test_unknown_architecture_and_options_are_named():
    with pytest.raises(ValueError, match=r"expected an architecture of bisenet.* found 'segformer'"):
        build_model("segformer", 3, {})
    with pytest.raises(ValueError, match=r"do not fit architecture 'bisenet'.*depth"):
        build_model("bisenet", 3, {"depth": 18})


def test_file_of_something_else_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="expected a trained model of format"):
        load_trained(tmp_path / "other.pt")


@pytest.mark.parametrize("architecture", ["mask_rcnn", "faster_rcnn"])
def test_boxes_are_decoded_in_float32_under_autocast(architecture):
    model = trained(architecture).model.train()
    proposals = []
    model.roi_heads.register_forward_pre_hook(lambda _module, inputs: proposals.extend(inputs[1]))
    targets = [
        {"boxes": torch.tensor([[5.0, 5, 60, 50]]), "labels": torch.tensor([1]), "masks": torch.ones(1, 64, 96)}
    ] * 2
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(list(IMAGES), targets)
    assert {boxes.dtype for boxes in proposals} == {torch.float32}
    assert all(torch.isfinite(loss) for loss in losses.values())
    rounded = torch.cat(proposals).bfloat16().float()
    assert not torch.equal(rounded, torch.cat(proposals))
