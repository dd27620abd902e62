"""YOLO detectors of the ultralytics library, built from its own model descriptions and without pretrained weights."""

import os
import tempfile

from torch import nn


def build_yolo(num_classes: int, variant: str = "yolov8n") -> nn.Module:
    """Return an ultralytics `DetectionModel` with random weights.

    Args:
        num_classes: classes the detector knows.
        variant: name of an ultralytics model description, such as "yolov8n" or "yolo11n".

    The model takes RGB float images [N,3,H,W] in [0, 1] with H and W multiples of 32. In training mode it returns the
    raw maps its loss needs, in eval mode a tuple that begins with decoded predictions [N,4+num_classes,anchors]: boxes
    as centre x, centre y, width, height in pixels, then a score per class.
    """
    _keep_ultralytics_offline()
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel(cfg=f"{variant}.yaml", nc=num_classes, verbose=False)
    model.args = get_cfg()  # weights of the loss's terms
    return model


def _keep_ultralytics_offline() -> None:
    # Read when ultralytics is imported: without these it looks for updates, downloads, installs and talks by itself.
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "0")
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
    os.environ.setdefault("YOLO_VERBOSE", "false")
