"""Valid bytes, made hostile: what a fuzzer sends."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

LARGEST = 1 << 20
"""Bytes of the largest mutation."""

_INTEGERS = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
_WIDTHS = ("B", ">H", "<H", ">I", "<I", ">Q", "<Q")

Operation = Callable[[bytearray, Random], None]


def _flip_bit(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set_byte(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] = random.randrange(256)


def _set_integer(data: bytearray, random: Random) -> None:
    # Sizes, counts and offsets stand in binary files as integers of these widths.
    form = random.choice(_WIDTHS)
    width = struct.calcsize(form)
    value = random.choice(_INTEGERS) % (1 << (8 * width))
    at = random.randrange(len(data))
    data[at : at + width] = struct.pack(form, value)


def _truncate(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def _delete(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.randint(1, 64)]


def _repeat(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    part = data[at : at + random.randint(1, 256)]
    data[at:at] = part * random.randint(1, 64)


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    data[at:at] = random.randbytes(random.randint(1, 16))


_OPERATIONS: tuple[Operation, ...] = (_flip_bit, _set_byte, _set_integer, _truncate, _delete, _repeat, _insert)


def mutated(seeds: Sequence[bytes], tokens: Sequence[bytes], random: Random) -> bytes:
    """One of the seeds with one to eight changes; tokens are words of its language that may slip in."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 8))):
        if not data:
            break
        choice = random.random()
        if tokens and choice < 0.3:
            at = random.randrange(len(data) + 1)
            data[at : at + random.choice((0, 0, 4, 16))] = random.choice(tokens)
        elif choice < 0.4:
            other = random.choice(seeds)
            data[random.randrange(len(data)) :] = other[random.randrange(len(other) + 1) :]
        else:
            random.choice(_OPERATIONS)(data, random)
    return bytes(data[:LARGEST])
