"""Who calls: API tokens, and JSON Web Tokens of an issuer (RFC 7519)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import jwt
from perception.watched import Watched
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.errors import WrongToken
from services.runtime.issuer_keys import ALGORITHMS, IssuerKeys, is_url, issuer_keys
from services.runtime.settings import File, require_readable
from services.runtime.tokens import Scope, TokenEntry, find, read_tokens

_CLOCK_SECONDS = 10.0
"""By how much an issuer's clock may differ from ours."""
_CLAIMS = ["exp", "iss", "aud", "sub"]
_LONGEST_NAME = 128


class AuthenticationSettings(BaseSettings):
    """Who may call."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    authentication_tokens_file: File = Field(
        None, description="API tokens, hashed; `perception token create` makes them; read again when it changes."
    )
    authentication_jwks: str = Field(
        "", description="Public keys of who issues JSON Web Tokens: path of a JSON Web Key Set, or an https URL."
    )
    authentication_issuer: str = Field(
        "", validate_default=True, description="Who issues them: the claim iss that they must have."
    )
    authentication_audience: str = Field(
        "", validate_default=True, description="Whom they are for: the claim aud that they must have."
    )
    authentication_rate: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Calls a second of a client whose token names no rate; 0: no limit."
    )
    authentication_streams: int = Field(
        0, ge=0, description="Camera streams at once of a client whose token names no number; 0: no limit."
    )
    authentication: Literal["off", "required"] = Field(
        "off", validate_default=True, description="Whether callers need a token; docs/security.md."
    )

    @field_validator("authentication_tokens_file")
    @classmethod
    def _holds_tokens(cls, path: File) -> File:
        if path is not None:
            require_readable(lambda: read_tokens(path))
        return path

    @field_validator("authentication_jwks")
    @classmethod
    def _holds_keys(cls, source: str) -> str:
        if source and not is_url(source):
            require_readable(lambda: issuer_keys(source))
        return source

    @field_validator("authentication_issuer", "authentication_audience")
    @classmethod
    def _goes_with_the_keys(cls, claim: str, info: ValidationInfo) -> str:
        if bool(claim) != bool(info.data.get("authentication_jwks", claim)):
            raise ValueError("expected AUTHENTICATION_JWKS, AUTHENTICATION_ISSUER and AUTHENTICATION_AUDIENCE, or none")
        return claim

    @field_validator("authentication")
    @classmethod
    def _goes_with_tokens(cls, authentication: str, info: ValidationInfo) -> str:
        sources = ("authentication_tokens_file", "authentication_jwks")
        given = [name.upper() for name in sources if info.data.get(name)]
        if authentication == "off" and given:
            raise ValueError(f"is off, but {' and '.join(given)} is set: expected required")
        if authentication == "required" and not given and all(name in info.data for name in sources):
            raise ValueError("needs AUTHENTICATION_TOKENS_FILE or AUTHENTICATION_JWKS")
        return authentication


@dataclass(frozen=True)
class Client:
    """Who calls.

    name: for logs, unique over tokens and issuer. rate: calls a second, and burst: calls at once after a pause.
    streams: camera streams at once. Infinity where there is no limit.
    """

    name: str
    scopes: frozenset[str]
    rate: float
    burst: float
    streams: float


class Authentication:
    """Tells clients by their tokens. Raises `OSError` and `ValueError` for files that cannot be used."""

    def __init__(self, settings: AuthenticationSettings) -> None:
        self._settings = settings
        self._rate = settings.authentication_rate or math.inf
        self._streams = settings.authentication_streams or math.inf
        file = settings.authentication_tokens_file
        self._entries = Watched([file], lambda: read_tokens(file)) if file else None
        jwks = settings.authentication_jwks
        self._keys: IssuerKeys | None = issuer_keys(jwks) if jwks else None

    async def client(self, token: str) -> Client:
        """Whose token it is. Raises `WrongToken` where it is nobody's, and `KeysUnavailable`."""
        # A JSON Web Token has two dots, an API token none.
        if self._keys is not None and token.count(".") == 2:
            return self._of_issuer(await self._claims(token, self._keys))
        return self._of_entry(token, self._entries.value() if self._entries else ())

    def _of_entry(self, token: str, entries: Sequence[TokenEntry]) -> Client:
        entry = find(token, entries)
        if entry is None:
            raise WrongToken("is not known")
        if entry.expires is not None and entry.expires <= datetime.now(UTC):
            raise WrongToken(f"of {entry.name} expired at {entry.expires.isoformat()}")
        rate = entry.rate or self._rate
        return Client(
            name=f"token/{entry.name}",
            scopes=frozenset(entry.scopes),
            rate=rate,
            burst=entry.burst or max(rate, 1.0),
            streams=entry.streams or self._streams,
        )

    async def _claims(self, token: str, keys: IssuerKeys) -> dict[str, Any]:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = await keys.key(key_id)
            if key is None:
                raise WrongToken(f"is signed by a key that its issuer does not have: {key_id!r:.80}")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._settings.authentication_issuer,
                audience=self._settings.authentication_audience,
                leeway=_CLOCK_SECONDS,
                options={"require": _CLAIMS},
            )
        # RecursionError: JSON that is nothing but brackets.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise WrongToken(f"is not accepted: {error!s:.200}") from None
        if not claims["sub"]:
            raise WrongToken("is not accepted: its claim sub is empty")
        return claims

    def _of_issuer(self, claims: dict[str, Any]) -> Client:
        return Client(
            name=f"issuer/{claims['sub']:.{_LONGEST_NAME}}",
            scopes=_scopes(claims),
            rate=self._rate,
            burst=max(self._rate, 1.0),
            streams=self._streams,
        )


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Those of ours among the claim `scope` (RFC 8693: words in one text) or `scp` (a list)."""
    claimed = claims.get("scope", claims.get("scp", ""))
    words = claimed.split() if isinstance(claimed, str) else claimed
    return frozenset(get_args(Scope)).intersection(words if isinstance(words, list) else ())
