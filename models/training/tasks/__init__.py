"""The tasks that models are trained for, by architecture."""

from models.training.config import RunConfig
from models.training.frame_cache import Frames
from models.training.tasks.classification import Classification
from models.training.tasks.detection import Detection
from models.training.tasks.rcnn import RegionDetection, RegionSegmentation
from models.training.tasks.semantic_segmentation import SemanticSegmentation
from models.training.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "bisenet": SemanticSegmentation,
    "yolo": Detection,
    "faster_rcnn": RegionDetection,
    "mask_rcnn": RegionSegmentation,
    "classifier": Classification,
}


def build_task(config: RunConfig, train: Frames, validation: Frames) -> Task:
    """Return the task that a run's architecture is trained for."""
    return TASKS[config.architecture.name](config, train, validation)
