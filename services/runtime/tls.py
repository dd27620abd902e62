"""TLS of a server: its certificate, and the callers that it trusts."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import grpc
from cryptography import x509
from perception.tls import TLS, Certificates

from services.runtime import metrics

_LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


def server_credentials(tls: TLS, *, require_clients: bool) -> grpc.ServerCredentials:
    """Credentials of a gRPC server, which a connection made after its files changed already uses.

    require_clients: only those may connect whom one of the authorities vouches for.
    """
    server = _Server(tls)
    newer: Any = server.newer  # gRPC's annotation does not know that None stands for no change
    return grpc.dynamic_ssl_server_credentials(server.configuration(), newer, require_clients)


class _Server:
    """What gRPC asks for before each handshake, from threads of its own."""

    def __init__(self, tls: TLS) -> None:
        self._watched = tls.watched()
        self._lock = Lock()
        self._used = self._watched.value()
        _show_expiry(self._used)

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._used.key or b"", self._used.certificate or b"")
        return grpc.ssl_server_certificate_configuration([pair], self._used.authorities)

    def newer(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            value = self._watched.value()
            if value is self._used:
                return None
            self._used = value
            _show_expiry(value)
            return self.configuration()


class WebServerTLS:
    """TLS of a web server. `context` is kept by `follow` at what the files hold.

    An authority that is no longer in its file is trusted until the process ends; all else is replaced.
    """

    def __init__(self, tls: TLS, *, require_clients: bool) -> None:
        self._tls = tls
        self._watched = tls.watched()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.verify_mode = ssl.CERT_REQUIRED if require_clients else ssl.CERT_NONE
        self._use(self._watched.value())

    async def follow(self) -> None:
        """Looks once a second, for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if (value := self._watched.value()) is not self._used:
                # They may have changed once more since they were read; then the next look finds them.
                with suppress(OSError):
                    self._use(value)

    def _use(self, value: Certificates) -> None:
        assert self._tls.certificate is not None
        self.context.load_cert_chain(self._tls.certificate, self._tls.key)
        if value.authorities is not None:
            self.context.load_verify_locations(cadata=value.authorities.decode())
        self._used = value
        _show_expiry(value)


def _show_expiry(certificates: Certificates) -> None:
    expiry = x509.load_pem_x509_certificate(certificates.certificate or b"").not_valid_after_utc
    metrics.CERTIFICATE_EXPIRY.set(expiry.timestamp())
    if expiry < datetime.now(UTC):
        log.warning("this process's certificate has expired", extra={"expired": expiry.isoformat()})
