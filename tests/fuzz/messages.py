"""Random messages of any type: each field that its descriptor names, with the values that break things."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_DEPTH = 5
_TEXTS = ("", "a", "gate", "../../etc/passwd", "\x00", "é\u202e", "%s%n", "'; --", "{}", "a" * 5000, "00-" + "f" * 32)
_FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 3e38, -3e38, float("inf"), float("-inf"), float("nan"))
_F = FieldDescriptor


def _integer(low: int, high: int) -> Callable[[Random], int]:
    near = [value for value in (0, 1, 2, 3, 16, 255, 65535, 65536, 2**31 - 1) if value <= high]
    return lambda random: random.choice((low, high, *near, random.randint(low, high)))


_SIGNED_32, _SIGNED_64 = _integer(-(2**31), 2**31 - 1), _integer(-(2**63), 2**63 - 1)
_UNSIGNED_32, _UNSIGNED_64 = _integer(0, 2**32 - 1), _integer(0, 2**64 - 1)
_SCALARS: dict[int, Callable[[Random], Any]] = {
    _F.TYPE_INT32: _SIGNED_32,
    _F.TYPE_INT64: _SIGNED_64,
    _F.TYPE_UINT32: _UNSIGNED_32,
    _F.TYPE_UINT64: _UNSIGNED_64,
    _F.TYPE_FLOAT: lambda random: random.choice(_FLOATS),
    _F.TYPE_DOUBLE: lambda random: random.choice(_FLOATS),
    _F.TYPE_BOOL: lambda random: random.random() < 0.5,
    _F.TYPE_STRING: lambda random: random.choice(_TEXTS),
    _F.TYPE_BYTES: lambda random: random.randbytes(random.choice((0, 1, 27, 300, 5000))),
}


def random_message(descriptor: Descriptor, pictures: list[bytes], random: Random, depth: int = _DEPTH) -> Message:
    """A message of that type. pictures: encoded ones, of which `Image.encoded` is often one."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if random.random() < 0.3 or (field.message_type and depth == 0):
            continue
        if field.is_repeated:
            count = random.choice((0, 1, 2, 5, 40))
            getattr(message, field.name).extend([_value(field, pictures, random, depth) for _ in range(count)])
        elif field.message_type:
            getattr(message, field.name).CopyFrom(_value(field, pictures, random, depth))
        else:
            setattr(message, field.name, _value(field, pictures, random, depth))
    return message


def _value(field: FieldDescriptor, pictures: list[bytes], random: Random, depth: int) -> Any:
    if field.message_type:
        return random_message(field.message_type, pictures, random, depth - 1)
    if field.enum_type:
        known = [value.number for value in field.enum_type.values]
        return random.choice((*known, *known, 99, -1, 2**31 - 1))
    if field.full_name == "perception.v1.Image.encoded" and random.random() < 0.8:
        return random.choice(pictures)
    return _SCALARS[field.type](random)
