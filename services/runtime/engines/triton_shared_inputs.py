"""Inputs that a Triton on this machine reads where they are, by its system shared memory extension.

Only inputs. Who gives up waiting does not know when Triton will have done with the request:
- an input's slot is free again at once. Triton may still read it while the next picture is written to it, which harms
  nobody: any bytes are a picture, those of a batch do not touch one another, and no one waits for the answer. (A
  response cache would keep it; so what a model with one is given is not shared.)
- an output's slot could not be: Triton would write the late answer into that of the next request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from services.runtime.engines.base import Model
from services.runtime.engines.shared_slots import NAME_PREFIX, SharedSlots, remove_leftovers
from services.runtime.errors import ServiceError

SLOTS = 8
"""Requests of a model whose inputs are shared at once; those of further ones are sent."""

Call = Callable[[str, Any], Awaitable[Any]]
"""Calls a method of Triton by its name with a request. Raises `ServiceError`."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where Triton finds a tensor: bytes from the beginning of a region that it knows by name."""

    region: str
    offset: int
    give_back: Callable[[], None]
    """Leaves it to other tensors."""


class SharedInputs:
    """The inputs of one model in shared memory. What cannot be shared is to be sent: nothing fails or waits for it."""

    def __init__(self, model: str, folder: Path, call: Call) -> None:
        """folder: where the files lie that Triton finds by their names, /dev/shm."""
        self._model = model
        self._folder = folder
        self._call = call
        self._slots: SharedSlots | None = None  # that Triton knows, as far as we know
        self._shares: bool | None = None  # as it was logged last
        self._introducing = asyncio.Lock()

    async def introduce(self, model: Model) -> None:
        """Makes slots known to Triton where it has none: at first, after it came back, for another size of input.

        Never raises: where it fails, inputs are not shared until the next time.
        """
        if self._introducing.locked():
            return
        async with self._introducing:
            try:
                regions = await self._regions()
                if not self._serve(model, regions):
                    self._drop()
                    self._slots = await self._registered(_request_bytes(model))
                await self._forget_leftovers(regions)
            except (OSError, ServiceError) as error:
                self._drop()
                self._log(shares=False, reason=str(error))
            else:
                self._log(shares=True)

    def put(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Place]:
        """Copies the tensors for which there is room into shared memory. Where they are, by name."""
        places = {}
        slots = self._slots
        if slots is not None:
            for name, tensor in inputs.items():
                slot = slots.put(tensor)
                if slot is not None:
                    places[name] = Place(slots.name, slot * slots.slot_bytes, partial(slots.give_back, slot))
        return places

    def lost(self, places: Mapping[str, Place]) -> None:
        """Triton does not know where these are: it has started anew, or another one answers."""
        if self._slots is not None and any(place.region == self._slots.name for place in places.values()):
            self._drop()
            self._log(shares=False, reason="Triton does not know the memory")

    async def close(self) -> None:
        """Ends the sharing."""
        if self._slots is not None:
            await self._forget(self._slots.name)
        self._drop()

    async def _regions(self) -> Mapping[str, Any]:
        """What Triton has mapped, by name."""
        answer = await self._call("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest())
        regions: Mapping[str, Any] = answer.regions
        return regions

    def _serve(self, model: Model, regions: Mapping[str, Any]) -> bool:
        slots = self._slots
        return slots is not None and slots.name in regions and slots.slot_bytes == _request_bytes(model)

    async def _registered(self, slot_bytes: int) -> SharedSlots:
        """New slots that Triton knows. That it finds a name that nobody can guess proves that it shares this memory."""
        remove_leftovers(self._folder)
        slots = SharedSlots(SLOTS, slot_bytes, self._folder)
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=slots.name, key=f"/{slots.name}", byte_size=slots.size
        )
        try:
            await self._call("SystemSharedMemoryRegister", request)
        except BaseException:
            slots.close()
            raise
        return slots

    async def _forget_leftovers(self, regions: Mapping[str, Any]) -> None:
        """Has Triton give back what it has mapped of files that are gone: those of processes that were killed."""
        for name in regions:
            if name.startswith(NAME_PREFIX) and not (self._folder / name).exists():
                await self._forget(name)

    async def _forget(self, name: str) -> None:
        # Triton refuses as long as it works on a request that refers to the region; then another time will do.
        with suppress(ServiceError):
            request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
            await self._call("SystemSharedMemoryUnregister", request)

    def _drop(self) -> None:
        if self._slots is not None:
            self._slots.close()
        self._slots = None

    def _log(self, *, shares: bool, reason: str = "") -> None:
        """Says whether inputs are shared, where that changes: a refusal comes back with every attempt."""
        if shares and not self._shares:
            log.info("inputs are shared with Triton", extra={"model": self._model})
        elif not shares and self._shares is not False:
            log.warning("inputs are sent to Triton, not shared", extra={"model": self._model, "reason": reason})
        self._shares = shares


def _request_bytes(model: Model) -> int:
    """Bytes of the largest input that a request brings: of one picture, and of a batch of regions to classify."""
    height, width = model.input_size
    pixels = height * width if height > 0 else model.resize.shortest_edge * model.resize.longest_edge
    pictures = max(1, model.max_batch_size) if model.task == "classification" else 1
    return 3 * pixels * pictures
