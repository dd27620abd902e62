"""Decoded pictures in memory that a gateway shares with the task services of its own machine.

One decoding then serves all tasks, and no picture is copied on its way to them. Each gateway has a folder of its own
below a folder that all of them know, best in /dev/shm; it holds a file for each picture that is at work at once.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import threading
from pathlib import Path
from uuid import uuid4

import numpy as np
from perception.v1 import image_pb2

from services.runtime import metrics
from services.runtime.errors import InvalidInput, PictureNotShared
from services.runtime.images import Picture
from services.runtime.shared_memory import create_owned, owned_by_nobody

_LARGEST_BYTES = 4096 * 2304 * 3
"""Of a picture that is shared: 4K. Larger ones are rare, and the memory would stay taken."""
_NAME = re.compile(r"[0-9a-f]{32}/[0-9]{1,4}")
_LOCK = "lock"
_MOST_MAPPINGS = 256


class SharedPicture:
    """Room for one picture. message: what task services are told of it. pixels: RGB uint8 [H, W, 3], to be written."""

    def __init__(self, segment: _Segment, height: int, width: int) -> None:
        self.segment = segment
        self.message = image_pb2.SharedPicture(name=segment.name, height=height, width=width)
        self.pixels: Picture = np.ndarray((height, width, 3), np.uint8, buffer=segment.memory)


class SharedPictures:
    """A gateway's shared memory: at most so many pictures at once, in a folder that it takes with it when it ends."""

    def __init__(self, directory: Path, most: int) -> None:
        """Raises `OSError` where the folder cannot be written."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_leftovers(directory)
        lock, self._lock = create_owned(lambda: _new_folder(directory) / _LOCK)
        self._folder = lock.parent
        # The one used last is taken first, so that no more memory is taken than pictures were at work at once.
        self._free = [_Segment(self._folder, number) for number in reversed(range(most))]
        self._taking = threading.Lock()

    def take(self, height: int, width: int) -> SharedPicture | None:
        """Room for a picture of that size in pixels; none where it is too large, or there is no room now."""
        size = height * width * 3
        if size > _LARGEST_BYTES:
            return None
        with self._taking:
            segment = self._free.pop() if self._free else None
        if segment is None:
            metrics.LIMIT_BREACHES.labels("max_shared_pictures").inc()
            return None
        try:
            segment.reserve(size)
        except OSError:  # no memory left in the file system
            self._put_back(segment)
            metrics.LIMIT_BREACHES.labels("shared_pictures_directory").inc()
            return None
        return SharedPicture(segment, height, width)

    def give_back(self, picture: SharedPicture) -> None:
        """Lets the next picture overwrite this one. Whoever reads it still has been given up, and answers nobody."""
        self._put_back(picture.segment)

    def _put_back(self, segment: _Segment) -> None:
        with self._taking:
            self._free.append(segment)

    def close(self) -> None:
        """Removes the folder; processes that still read keep the memory until they notice."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


class _Segment:
    """A file in memory that grows to the largest picture it ever held."""

    def __init__(self, folder: Path, number: int) -> None:
        self.name = f"{folder.name}/{number}"
        self.memory: mmap.mmap | bytes = b""
        self._path = folder / str(number)

    def reserve(self, size: int) -> None:
        """Sees to it that `memory` holds so many bytes. Raises `OSError` where there is no memory left."""
        if len(self.memory) >= size:
            return
        file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # Not `truncate`: a file system that is full would end the process as it writes.
            os.posix_fallocate(file, 0, size)
            self.memory = mmap.mmap(file, size)
        finally:
            os.close(file)


class SharedPictureReader:
    """What a task service reads of gateways' shared memory."""

    def __init__(self, directory: Path | None) -> None:
        """directory: where gateways have their folders; none: nothing is shared with this process."""
        self._directory = directory
        self._mappings: dict[str, mmap.mmap] = {}
        self._mapping = threading.Lock()

    def read(self, message: image_pb2.SharedPicture) -> Picture:
        """The pixels, RGB uint8 [H, W, 3], read-only; they are the gateway's until the call is answered.

        Raises `PictureNotShared` where this process does not see them, and `InvalidInput` for a claim that cannot be.
        """
        if self._directory is None:
            raise PictureNotShared("SHARED_PICTURES_DIRECTORY is not set")
        if not _NAME.fullmatch(message.name):
            raise InvalidInput("image.shared.name", f"is {message.name[:64]!r}: expected <gateway>/<number>")
        size = message.height * message.width * 3
        if not 0 < size <= _LARGEST_BYTES:
            raise InvalidInput("image.shared", f"a picture of {message.height} x {message.width} pixels")
        memory = self._map(self._directory, message.name, size)
        return np.ndarray((message.height, message.width, 3), np.uint8, buffer=memory)

    def _map(self, directory: Path, name: str, size: int) -> mmap.mmap:
        with self._mapping:
            memory = self._mappings.get(name)
            if memory is None or len(memory) < size:
                self._forget_removed(directory)
                memory = self._mappings[name] = _mapped(directory / name, size)
            return memory

    def _forget_removed(self, directory: Path) -> None:
        """Lets go of the memory of gateways that have ended."""
        if len(self._mappings) >= _MOST_MAPPINGS:
            self._mappings.clear()
        self._mappings = {name: memory for name, memory in self._mappings.items() if (directory / name).exists()}


def _mapped(path: Path, size: int) -> mmap.mmap:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise PictureNotShared(f"{path}: {error.strerror}") from None
    try:
        # Read beyond its end, memory of a file would end the process.
        held = os.fstat(file).st_size
        if held < size:
            raise InvalidInput("image.shared", f"a picture of {size} bytes in a memory of {held}")
        return mmap.mmap(file, held, prot=mmap.PROT_READ)
    finally:
        os.close(file)


def _new_folder(directory: Path) -> Path:
    folder = directory / uuid4().hex
    folder.mkdir(mode=0o700)
    return folder


def _remove_leftovers(directory: Path) -> None:
    """Removes what gateways left behind that were killed."""
    for lock in directory.glob(f"*/{_LOCK}"):
        with owned_by_nobody(lock) as left_over:
            if left_over:
                shutil.rmtree(lock.parent, ignore_errors=True)
