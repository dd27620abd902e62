"""Small frames of the real scenes, rendered once, and a run's configuration for each architecture."""

import pytest

torch = pytest.importorskip("torch")

from models.training.config import RunConfig, Scenes  # noqa: E402
from models.training.frame_cache import cached_frames  # noqa: E402

SCENES = {
    "name": "scenes",
    "train_seeds": [0, 2],
    "validation_seeds": [2, 3],
    "frames_per_sequence": 2,
    "width": 128,
    "height": 96,
}
NARROW = {"widths": [8, 8, 16, 16]}
OPTIONS = {
    "bisenet": NARROW | {"spatial_channels": 8},
    "yolo": {},
    "mask_rcnn": NARROW | {"input_size": [128, 96], "pyramid_channels": 16, "mask_head_channels": [16]},
    "faster_rcnn": NARROW | {"input_size": [128, 96], "pyramid_channels": 16},
    "classifier": NARROW,
}


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small gain nothing from a second thread, and on a busy machine lose much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def frames(tmp_path_factory):
    """The frames of both splits."""
    folder = tmp_path_factory.mktemp("frames")
    dataset = Scenes.model_validate(SCENES)
    return {split: cached_frames(dataset, split, folder) for split in ("train", "validation")}


@pytest.fixture(scope="session")
def run_config():
    """A function that makes the configuration of a run of a second or two for an architecture."""
    return _run_config


def _run_config(architecture: str, **changes: object) -> RunConfig:
    crop = [32, 32] if architecture == "classifier" else [96, 64]
    fields = {
        "name": architecture,
        "architecture": {"name": architecture, "options": OPTIONS[architecture]},
        "dataset": SCENES,
        "augmentation": {"crop": crop, "scale": [0.8, 1.2], "colour_jitter": 0.1},
        "seed": 3,
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 0.003,
        "weight_decay": 0.01,
        "warmup_steps": 0,
        "validate_every": 6,
    }
    return RunConfig.model_validate(fields | changes)
