"""The parts of the benchmark."""

from __future__ import annotations

import os
from dataclasses import dataclass

_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")} | {
    "OPENCV_FOR_THREADS_NUM": "1"
}


@dataclass(frozen=True)
class Part:
    """What a part is called in the document, and whether its arms are functions that are to keep to one thread."""

    title: str
    one_thread: bool = False

    def environment(self) -> dict[str, str]:
        """The environment variables of its process; libraries read the number of threads when they are loaded."""
        return {**os.environ, **(_ONE_THREAD if self.one_thread else {})}


PARTS = {
    "overhead": Part("The whole path against the models alone"),
    "triton": Part("Each task service against raw Triton"),
    "fusion": Part("Fusion against the original loop", one_thread=True),
    "codecs": Part("Masks and maps as bytes", one_thread=True),
    "wire": Part("Ways over the wire"),
    "scale": Part("Streams and sizes"),
    "knee": Part("The knee"),
}
"""Each is a module of this package by the same name with a function `measure(run) -> Findings`."""
