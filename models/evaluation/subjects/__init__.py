"""What can be measured: each task's service alone, and the whole system."""

from models.evaluation.subjects.classification import ClassificationSubject
from models.evaluation.subjects.objects import DetectionSubject, InstanceSegmentationSubject
from models.evaluation.subjects.semantic_segmentation import SemanticSegmentationSubject
from models.evaluation.subjects.subject import Subject
from models.evaluation.subjects.system import SystemSubject
from models.evaluation.subjects.tracking import TrackingSubject

__all__ = [
    "ClassificationSubject",
    "DetectionSubject",
    "InstanceSegmentationSubject",
    "SemanticSegmentationSubject",
    "Subject",
    "SystemSubject",
    "TrackingSubject",
]
