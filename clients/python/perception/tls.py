"""Certificates: whom a process trusts, and how it shows who it is."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from perception.watched import Watched


@dataclass(frozen=True)
class TLS:
    """PEM files of one side of a connection; replaced files are used for new connections.

    authorities: whom to trust; those that gRPC brings along where none is given. certificate, key: by which this side
    shows who it is, both or neither; the certificate is followed by those between it and its authority. Raises
    `ValueError` for one without the other.
    """

    authorities: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("expected a certificate and its key, or neither")

    def files(self) -> Sequence[Path]:
        """The files that are named."""
        return tuple(Path(path) for path in (self.authorities, self.certificate, self.key) if path is not None)

    def watched(self) -> Watched[Certificates]:
        """What the files hold, read again when they change. Raises as `read` does."""
        return Watched(self.files(), self.read)

    def read(self) -> Certificates:
        """What the files hold. Raises `OSError` and `ValueError` naming a file that cannot be used."""
        held = self._held()
        self._prove()
        if self._held() != held:
            raise ValueError(f"{self.certificate}: was replaced while it was read")
        return held

    def _held(self) -> Certificates:
        return Certificates(_bytes(self.authorities), _bytes(self.certificate), _bytes(self.key))

    def _prove(self) -> None:
        """Loads the files as they are; gRPC takes anything, and fails at every handshake."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.authorities is not None:
            with _expecting(self.authorities, "certificates in PEM"):
                context.load_verify_locations(self.authorities)
        if self.certificate is not None and self.key is not None:
            with _expecting(self.certificate, f"a certificate in PEM with its key in {self.key}, without a password"):
                # Without the last word, which is no password, OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self.certificate, self.key, lambda: "")


@dataclass(frozen=True)
class Certificates:
    """What the files of a `TLS` hold, PEM."""

    authorities: bytes | None
    certificate: bytes | None
    key: bytes | None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For those who call."""
        return grpc.ssl_channel_credentials(self.authorities, self.key, self.certificate)


@contextmanager
def _expecting(path: str | Path, expected: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise ValueError(f"{path}: expected {expected}: {error.reason or error}") from None


def _bytes(path: str | Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error.strerror}") from None
