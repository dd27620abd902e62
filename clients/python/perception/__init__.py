"""Perception: frames in, panoptic scenes out.

>>> from perception import PerceptionClient
>>> with PerceptionClient("localhost:50050") as client:  # doctest: +SKIP
...     scene = client.perceive("frame.jpg")
...     scene.draw("overlay.png")
"""

from perception.client import AsyncPerceptionClient, PerceptionClient
from perception.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    PerceptionError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from perception.scene import Model, Scene, TaskStatus
from perception.streams import Frame, FrameDropped, FrameError, StreamAnswer
from perception.tls import TLS
from perception.types import Attribute, ClassMap, Detections, Instances, Panoptic, Segment, Track

__all__ = [
    "TLS",
    "AsyncPerceptionClient",
    "Attribute",
    "ClassMap",
    "DeadlineExceeded",
    "Detections",
    "Frame",
    "FrameDropped",
    "FrameError",
    "Instances",
    "InternalError",
    "InvalidArgument",
    "Model",
    "Panoptic",
    "PerceptionClient",
    "PerceptionError",
    "PermissionDenied",
    "ResourceExhausted",
    "Scene",
    "Segment",
    "StreamAnswer",
    "TaskStatus",
    "Track",
    "Unauthenticated",
    "Unavailable",
]
