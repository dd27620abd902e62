"""How a program shows who it is, where its user says so by environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from perception.connections import read_token
from perception.tls import TLS

VARIABLES = ("TLS_CA_FILE", "TLS_CERTIFICATE_FILE", "TLS_KEY_FILE", "TOKEN_FILE")


@dataclass(frozen=True)
class Caller:
    """Who calls. tls: plain text where none is given. token: file of the token that gateways are shown."""

    tls: TLS | None = None
    token: Path | None = None

    @classmethod
    def of_environment(cls) -> Self:
        """As TLS_CA_FILE, TLS_CERTIFICATE_FILE, TLS_KEY_FILE and TOKEN_FILE say, which services and agents read too.

        None of them is needed; a certificate and its key need the authorities of TLS_CA_FILE. Raises `ValueError` for
        files that cannot be used.
        """
        authorities, certificate, key, token = (
            Path(value) if (value := os.environ.get(name)) else None for name in VARIABLES
        )
        if authorities is None and (certificate or key):
            raise ValueError("expected TLS_CA_FILE beside TLS_CERTIFICATE_FILE and TLS_KEY_FILE")
        tls = TLS(authorities, certificate, key) if authorities else None
        try:
            if tls:
                tls.read()
            if token:
                read_token(token)
        except OSError as error:
            raise ValueError(str(error)) from None
        return cls(tls, token)


NOBODY = Caller()
"""Plain text without a token."""
