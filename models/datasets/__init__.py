"""Data sets: one sample type, readers for the usual label formats, and the procedural demo scenes."""

from models.datasets.sample import Category, Dataset, Sample, Segment

__all__ = ["Category", "Dataset", "Sample", "Segment"]
