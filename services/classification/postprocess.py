"""Output tensors to classifications."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from perception.v1 import classification_pb2


def to_classifications(
    probabilities: NDArray[np.float32], labels: Sequence[str], top_k: int
) -> list[classification_pb2.Classification]:
    """The likeliest classes of each region, best first. probabilities: float32 [N, C]."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        classification_pb2.Classification(
            classes=[
                classification_pb2.ClassScore(class_id=class_id, label=labels[class_id], score=region[class_id])
                for class_id in classes.tolist()
            ]
        )
        for region, classes in zip(probabilities, best, strict=True)
    ]
