"""API tokens: what a caller shows, and the file in which they are kept hashed.

A token is a random number of 256 bits, so that its SHA-256 tells nothing of it and no salt is needed; the file may be
read by who must not call.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from services.runtime.yaml_file import YamlError, parse_yaml

Scope = Literal["perceive", "watch", "describe", "administer"]
"""What a caller may do: have pictures perceived, watch cameras on the page, ask what the system is, change it."""

PREFIX = "perception_"
"""How a token begins, so that people and scanners of leaked secrets know one when they see it."""

_RANDOM_BYTES = 32


class TokenEntry(BaseModel):
    """A token as it is kept.

    name: whose it is, for logs. sha256: of the token, hexadecimal. expires: no end where none is given; UTC where it
    names no zone. rate: calls a second, and burst: calls at once after a pause, a second's where none is given.
    streams: camera streams at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    expires: datetime | None = None
    rate: float | None = Field(None, gt=0, allow_inf_nan=False)
    burst: int | None = Field(None, ge=1)
    streams: int | None = Field(None, ge=1)

    @field_validator("expires")
    @classmethod
    def _in_a_zone(cls, expires: datetime | None) -> datetime | None:
        return expires.replace(tzinfo=UTC) if expires and expires.tzinfo is None else expires


_ENTRIES = TypeAdapter(tuple[TokenEntry, ...])


def new_token() -> str:
    """A token that nobody has."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def find(token: str, entries: Sequence[TokenEntry]) -> TokenEntry | None:
    """The entry of a token. How long it takes tells nothing of the entries: digests are compared, each in full."""
    shown = digest(token)
    found = None
    for entry in entries:
        if hmac.compare_digest(shown, entry.sha256):
            found = entry
    return found


def read_tokens(path: Path) -> tuple[TokenEntry, ...]:
    """The entries of a file. Raises `OSError`, and `ValueError` naming file, entry and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    return parse_tokens(text, path)


def parse_tokens(text: str, path: Path) -> tuple[TokenEntry, ...]:
    """The entries of a file's text. Raises as `read_tokens` does."""
    try:
        values = parse_yaml(text.encode())
    except YamlError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        entries = _ENTRIES.validate_python(() if values is None else values)
    except ValidationError as error:
        # Without what was found there, which may be a token that somebody forgot to hash.
        mistakes = (f"{'.'.join(map(str, each['loc'])) or 'expected a list'}: {each['msg']}" for each in error.errors())
        raise ValueError(f"{path}: {'; '.join(mistakes)}") from None
    for what in ("name", "sha256"):
        twice = [value for value, count in Counter(getattr(entry, what) for entry in entries).items() if count > 1]
        if twice:
            raise ValueError(f"{path}: expected no two entries of one {what}, found {', '.join(twice)}")
    return entries
