"""A line of JSON for each answer."""

from __future__ import annotations

import json
from pathlib import Path

from services.camera.gateway_stream import SentFrame
from services.camera.sinks.base import Answer
from services.camera.sinks.records import to_record


class JsonlFile:
    """Adds to a file a line for each answer, dropped frames and errors as well."""

    def __init__(self, camera: str, path: Path) -> None:
        self._camera = camera
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, answer: Answer, sent: SentFrame) -> None:
        """Writes one line."""
        self._file.write(json.dumps(to_record(self._camera, answer, sent)) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
