"""The public keys of who issues JSON Web Tokens (RFC 7517)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from perception.watched import Watched

from services.runtime.errors import KeysUnavailable

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""What a signature may be made by: with a private key alone. Never `none`, nor a secret that both sides know."""

_FEWEST_RSA_BITS = 2048
_MOST_BYTES = 2**20
_FETCH_SECONDS = 5.0
_FRESH_SECONDS = 600.0
"""How long keys are taken for all that the issuer has, unless a token names another one."""
_UNKNOWN_SECONDS = 30.0
"""How often at most the issuer is asked because of a key that it did not have."""
_RETRY_SECONDS = 1.0

Keys = Mapping[str, jwt.PyJWK]

log = logging.getLogger(__name__)


class IssuerKeys(Protocol):
    """An issuer's keys, by their ids."""

    async def key(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of that id, or the only one where a token names none; None where there is no such key.

        Raises `KeysUnavailable` where no key is known at all.
        """
        ...


def issuer_keys(source: str) -> IssuerKeys:
    """Keys from an https URL, or from a file. Raises `OSError` and `ValueError` for a file that cannot be used."""
    return RemoteKeys(source) if is_url(source) else FileKeys(Path(source))


def is_url(source: str) -> bool:
    """Whether it is one. Raises `ValueError` for one that is not https."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme != "https":
        raise ValueError(f"expected a path or an https URL, found one of {scheme}")
    return bool(separator)


def read_keys(document: str | bytes) -> Keys:
    """The keys of a JSON Web Key Set that can prove a signature. Raises `ValueError` where there is none."""
    values = json.loads(document)
    listed = values.get("keys") if isinstance(values, dict) else None
    if not isinstance(listed, list):
        raise ValueError("expected a JSON Web Key Set, an object with a list of keys")
    keys = {}
    for number, value in enumerate(listed):
        key = _usable(value)
        if key is not None:
            keys[str(value.get("kid", number))] = key
    if not keys:
        raise ValueError(f"expected public keys for {', '.join(ALGORITHMS)}, found none among {len(listed)}")
    return keys


def _usable(value: Any) -> jwt.PyJWK | None:
    if not isinstance(value, dict) or value.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(value)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if key.algorithm_name not in ALGORITHMS:
        return None
    return None if isinstance(key.key, RSAPublicKey) and key.key.key_size < _FEWEST_RSA_BITS else key


def _find(keys: Keys, key_id: str | None) -> jwt.PyJWK | None:
    if key_id is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(key_id)


class FileKeys:
    """`IssuerKeys` of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._keys = Watched([path], lambda: read_keys(path.read_bytes()))

    async def key(self, key_id: str | None) -> jwt.PyJWK | None:
        """See `IssuerKeys.key`."""
        return _find(self._keys.value(), key_id)


class RemoteKeys:
    """`IssuerKeys` of a URL.

    Asked for when they are first needed, every ten minutes, and when a token names a key that is not among them. An
    issuer that does not answer leaves those that it had.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Keys = {}
        self._asked = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def key(self, key_id: str | None) -> jwt.PyJWK | None:
        """See `IssuerKeys.key`."""
        found = _find(self._keys, key_id)
        if time.monotonic() - self._asked >= self._patience(is_known=found is not None):
            self._asked = time.monotonic()
            self._asking = asyncio.create_task(self._ask())
        if found is None and self._asking is not None:
            # Shared by all who wait, so none of them may end it.
            await asyncio.shield(self._asking)
            found = _find(self._keys, key_id)
        if not self._keys:
            raise KeysUnavailable
        return found

    def _patience(self, *, is_known: bool) -> float:
        if not self._keys:
            return _RETRY_SECONDS
        return _FRESH_SECONDS if is_known else _UNKNOWN_SECONDS

    async def _ask(self) -> None:
        try:
            self._keys = read_keys(await self._fetch())
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
            log.warning("the issuer's keys cannot be had", extra={"url": self._url, "reason": repr(error)})

    async def _fetch(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True, raise_for_status=True) as session,
            session.get(self._url, allow_redirects=False) as answer,
        ):
            document = b""
            async for chunk in answer.content.iter_any():
                document += chunk
                if len(document) > _MOST_BYTES:
                    raise ValueError(f"expected at most {_MOST_BYTES} bytes")
            return document
