"""A frame's picture on its way to the tasks: in memory shared with them, or in the message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, nullcontext
from functools import cached_property

from perception.v1 import detection_pb2, image_pb2, task_pb2

from services.gateway.settings import GatewaySettings
from services.runtime import images
from services.runtime.images import ImageLimits
from services.runtime.shared_pictures import SharedPicture, SharedPictures
from services.runtime.timing import StageClock


class Picture:
    """One frame's picture as the field `image`, which has one number in every task's request.

    size: (height, width) in pixels, as displayed. memory: where its pixels are shared; none: nowhere. Serialized
    messages may be concatenated, so the picture is serialized once for all tasks.
    """

    def __init__(self, image: image_pb2.Image, size: tuple[int, int], memory: SharedPicture | None) -> None:
        self.size = size
        self._image = image
        self.memory = memory

    @cached_property
    def as_sent(self) -> bytes:
        """With all its bytes, as the caller sent it."""
        return _field(self._image)

    @cached_property
    def as_shared(self) -> bytes:
        """As it is to be found in shared memory; empty where it is not."""
        return _field(image_pb2.Image(shared=self.memory.message)) if self.memory else b""


class Pictures:
    """Takes callers' pictures in. Close it after use."""

    def __init__(self, settings: GatewaySettings, executor: Executor) -> None:
        """executor: where pictures are decoded. Raises `OSError` where the folder of shared pictures is unusable."""
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._executor = executor
        directory = settings.shared_pictures_directory
        self._memory = SharedPictures(directory, settings.max_shared_pictures) if directory else None

    @asynccontextmanager
    async def taken(self, image: image_pb2.Image, clock: StageClock) -> AsyncIterator[Picture]:
        """A picture for as long as tasks work on it.

        Raises `InvalidInput` and `LimitExceeded` as `images.check` does, and as `Checked.decode` where it is shared.
        """
        taking = asyncio.get_running_loop().run_in_executor(self._executor, lambda: self._take(image))
        try:
            with clock.stage(task_pb2.STAGE_DECODE) if self._memory else nullcontext():
                picture = await asyncio.shield(taking)
        except asyncio.CancelledError:
            # The thread goes on writing, so the memory is given back only when it is done.
            taking.add_done_callback(self._give_back_unused)
            raise
        try:
            yield picture
        finally:
            self._give_back(picture)

    def _take(self, image: image_pb2.Image) -> Picture:
        checked = images.check(image, self._limits)
        picture = Picture(image, checked.size, self._memory.take(*checked.size) if self._memory else None)
        if picture.memory:
            try:
                checked.decode(picture.memory.pixels)
            except BaseException:
                self._give_back(picture)
                raise
        return picture

    def _give_back_unused(self, taken: asyncio.Future[Picture]) -> None:
        if not taken.cancelled() and taken.exception() is None:
            self._give_back(taken.result())

    def _give_back(self, picture: Picture) -> None:
        if self._memory and picture.memory:
            self._memory.give_back(picture.memory)

    def close(self) -> None:
        """Gives back the shared memory."""
        if self._memory:
            self._memory.close()


def _field(image: image_pb2.Image) -> bytes:
    return detection_pb2.DetectRequest(image=image).SerializeToString()
