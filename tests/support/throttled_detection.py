"""Detection by the rule of `contract_models`, as a model of Triton's python backend that takes its time.

Triton runs this file; `contract_models.write_throttled_model` puts it into a repository. One picture at a time, each
takes the seconds of the parameter `seconds`, in which the processor is free: the pace is the same on a slow machine and
on a fast one.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._seconds = float(config["parameters"]["seconds"]["string_value"])
        self._max_detections = next(
            output["dims"][0] for output in config["output"] if output["name"] == "detection_boxes"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "image").as_numpy()) for request in requests]

    def _answer(self, image: np.ndarray) -> Any:
        time.sleep(self._seconds)
        boxes = np.zeros((self._max_detections, 4), np.float32)
        scores = np.zeros(self._max_detections, np.float32)
        classes = np.zeros(self._max_detections, np.int32)
        rows, columns = np.nonzero(image.max(axis=2) > 127)
        found = np.array([int(rows.size > 0)], np.int32)
        if rows.size:
            boxes[0] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            scores[0] = image.max() / 255
            classes[0] = image[rows, columns].sum(axis=0, dtype=np.int64).argmax()
        tensors = {
            "num_detections": found,
            "detection_boxes": boxes,
            "detection_scores": scores,
            "detection_classes": classes,
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in tensors.items()])
