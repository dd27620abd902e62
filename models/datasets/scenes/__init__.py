"""A deterministic, procedural camera with two worlds, a street and a conveyor line, and truth exact to the pixel."""

from models.datasets.scenes.categories import CATEGORIES, PARCELS, TRAIN_IDS, WORLD_CATEGORIES
from models.datasets.scenes.sequence import SceneDataset, SceneSequence

__all__ = ["CATEGORIES", "PARCELS", "TRAIN_IDS", "WORLD_CATEGORIES", "SceneDataset", "SceneSequence"]
