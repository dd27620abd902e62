"""Cached frames, augmentation, and the metric of semantic segmentation."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.training.augmentation import Augment  # noqa: E402
from models.training.config import Augmentation, Scenes  # noqa: E402
from models.training.frame_cache import cached_frames, open_dataset  # noqa: E402
from models.training.tasks.classification import Classification  # noqa: E402
from models.training.tasks.semantic_segmentation import confusion_matrix  # noqa: E402


def test_cached_frames_are_those_of_the_dataset(frames, run_config):
    dataset = open_dataset(run_config("bisenet").dataset, "validation")
    cached = frames["validation"]
    assert len(cached) == len(dataset)
    assert cached.labels == tuple(category.name for category in dataset.categories)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert np.array_equal(cached.images[index], sample.image)
        assert np.array_equal(cached.semantic[index], sample.semantic)
        assert np.array_equal(cached.panoptic[index], sample.panoptic)
        assert {
            identifier: cached.labels[found["category"]] for identifier, found in cached.segments[index].items()
        } == {segment.id: segment.category for segment in sample.segments}


def test_frames_are_rendered_once(tmp_path):
    config = Scenes(
        name="scenes", train_seeds=(0, 1), validation_seeds=(1, 2), frames_per_sequence=1, width=96, height=96
    )
    first = cached_frames(config, "train", tmp_path)
    (folder,) = tmp_path.iterdir()
    written = (folder / "images.npy").stat().st_mtime_ns
    again = cached_frames(config, "train", tmp_path)
    assert (folder / "images.npy").stat().st_mtime_ns == written
    assert np.array_equal(first.images, again.images)
    cached_frames(config.model_copy(update={"train_seeds": (2, 3)}), "train", tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_camvid_needs_its_folder_named(monkeypatch, run_config):
    monkeypatch.delenv("PERCEPTION_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="PERCEPTION_DATA, which is not set"):
        open_dataset(run_config("bisenet", dataset={"name": "camvid"}).dataset, "train")


def test_picture_and_map_are_changed_alike():
    """Where the picture is white the map is 1, before and after; only borders may differ by the interpolation."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:50, 10:60] = 255
    label_map = (image[..., 0] > 0).astype(np.uint8)
    augment = Augment(Augmentation(scale=(0.7, 1.5), crop=(64, 48), horizontal_flip=0.5), (80, 60), map_fill=9)
    torch.manual_seed(0)
    for _ in range(10):
        changed, changed_map = augment(image, label_map)
        assert changed.shape == (3, 48, 64)
        assert changed_map.shape == (48, 64)
        inside = changed_map != 9
        agreement = ((changed[0] > 127) == (changed_map == 1))[inside].float().mean()
        assert agreement > 0.95


def test_whole_picture_is_kept_without_a_crop():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    changed, _ = Augment(Augmentation(horizontal_flip=0.0), (60, 40), map_fill=0)(image, image[..., 0])
    assert np.array_equal(changed.permute(1, 2, 0).numpy(), image)


def test_confusion_matrix_counts_pixels_that_are_not_ignored():
    truth = np.array([[0, 0, 1], [1, 2, 255]])
    predicted = np.array([[0, 1, 1], [1, 0, 2]])
    assert confusion_matrix(truth, predicted, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_classifier_learns_the_stated_condition_of_whole_things(frames, run_config):
    task = Classification(run_config("classifier"), **frames)
    stated = []
    for panoptic, segments in zip(frames["train"].panoptic, frames["train"].segments, strict=True):
        border = {*panoptic[0].tolist(), *panoptic[-1].tolist(), *panoptic[:, 0].tolist(), *panoptic[:, -1].tolist()}
        stated += [
            found["attributes"]["condition"]
            for name, found in segments.items()
            if found["attributes"] and name not in border
        ]
    assert stated
    assert sorted(task.labels[crop.label] for crop in task.crops if crop.stated) == sorted(stated)
    assert {task.labels[crop.label] for crop in task.crops if not crop.stated} == {"intact"}
    images, labels = task.batch(np.arange(3))
    assert images.shape == (3, 3, 32, 32)
    assert labels.tolist() == [crop.label for crop in task.crops[:3]]
