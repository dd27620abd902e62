"""Who may call what, and how often."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from services.runtime import logs, metrics
from services.runtime.authentication import Authentication, Client
from services.runtime.errors import (
    KeysUnavailable,
    NoToken,
    QuotaExceeded,
    ScopeMissing,
    ServiceError,
    WrongToken,
)
from services.runtime.tokens import Scope

AUTHORIZATION_KEY = "authorization"
_BEARER = "bearer "
_HEALTH = "/grpc.health.v1.Health/"
_STREAM_RETRY_SECONDS = 5.0
_CHECK_SECONDS = 2.0
"""How often the token of what stays open is looked at again."""
_FEW_ACCOUNTS = 1024

_SCOPES: Mapping[str, Scope] = {
    "/perception.v1.PerceptionService/Perceive": "perceive",
    "/perception.v1.PerceptionService/PerceiveStream": "perceive",
    "/perception.v1.PerceptionService/DescribeSystem": "describe",
    "/perception.v1.ModelService/DescribeModel": "describe",
}

_RESULTS: Mapping[type[ServiceError], str] = {
    NoToken: "no_token",
    WrongToken: "wrong_token",
    ScopeMissing: "no_scope",
    KeysUnavailable: "no_keys",
}

log = logging.getLogger(__name__)


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call in whose token has the scope of its method, within its client's quotas; health needs no token.

    A method that is not known here needs the scope `administer`. Of a call that is refused nothing is read.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler that answers, or one that refuses."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(_HEALTH):
            return handler
        token, scope = bearer_token(handler_call_details.invocation_metadata or ()), _SCOPES.get(method, "administer")
        try:
            client = await self._gate.admit(token, scope)
        except ServiceError as error:
            return _refusing(error)
        logs.client.set(client.name)
        return self._while_allowed(handler, client, token, scope) if handler.stream_stream else handler

    def _while_allowed(self, handler: Any, client: Client, token: str, scope: Scope) -> Any:
        async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            with self._gate.stream(client):
                refused = asyncio.create_task(self._gate.refused(token, scope))
                try:
                    async with aclosing(handler.stream_stream(_Until(refused, requests), context)) as responses:
                        async for response in responses:
                            yield response
                finally:
                    refused.cancel()

        return handler._replace(stream_stream=answer)


class Gate:
    """Tells clients by their tokens and keeps them to their scopes and quotas."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        self._accounts: dict[str, _Account] = {}
        self._sweep_at = _FEW_ACCOUNTS

    async def admit(self, token: str, scope: Scope) -> Client:
        """The client of a call.

        Raises `NoToken`, `WrongToken`, `KeysUnavailable`, `ScopeMissing` and `QuotaExceeded`.
        """
        try:
            client = await self.identify(token, scope)
        except ServiceError as error:
            metrics.ACCESS.labels(_RESULTS[type(error)]).inc()
            raise
        self._account(client).take(client)
        metrics.ACCESS.labels("accepted").inc()
        return client

    async def identify(self, token: str, scope: Scope) -> Client:
        """As `admit`, without its quotas."""
        if not token:
            raise NoToken
        client = await self._authentication.client(token)
        if scope not in client.scopes:
            raise ScopeMissing(client.name, scope)
        return client

    async def refused(self, token: str, scope: Scope) -> ServiceError:
        """Waits until a token does not open any more what it has opened; why."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                await self.identify(token, scope)
            except KeysUnavailable:
                continue
            except ServiceError as error:
                metrics.ACCESS.labels("withdrawn").inc()
                return error

    @contextmanager
    def stream(self, client: Client) -> Iterator[None]:
        """A stream of a client, while it is open. Raises `QuotaExceeded` where it has too many."""
        account = self._account(client)
        if account.streams >= client.streams:
            metrics.ACCESS.labels("too_many_streams").inc()
            raise QuotaExceeded(client.name, "streams", client.streams, "authentication_streams", _STREAM_RETRY_SECONDS)
        account.streams += 1
        try:
            yield
        finally:
            account.streams -= 1

    def _account(self, client: Client) -> _Account:
        account = self._accounts.get(client.name)
        if account is None:
            self._sweep()
            account = self._accounts[client.name] = _Account(client.burst, time.monotonic())
        return account

    def _sweep(self) -> None:
        """Forgets the clients that are as if they had never come; an issuer may have any number of them."""
        if len(self._accounts) < self._sweep_at:
            return
        now = time.monotonic()
        self._accounts = {name: account for name, account in self._accounts.items() if not account.is_new(now)}
        self._sweep_at = max(_FEW_ACCOUNTS, 2 * len(self._accounts))


@dataclass
class _Account:
    """What a client has used: calls that it may still make at once as of a moment, and its open streams."""

    calls: float
    at: float
    streams: int = 0
    full_at: float = 0.0

    def take(self, client: Client) -> None:
        """One call. Raises `QuotaExceeded` where there is none left (a token bucket)."""
        if math.isinf(client.rate):
            return
        now = time.monotonic()
        self.calls = min(client.burst, self.calls + (now - self.at) * client.rate)
        self.at = now
        if self.calls < 1.0:
            metrics.ACCESS.labels("too_many_requests").inc()
            retry = (1.0 - self.calls) / client.rate
            raise QuotaExceeded(client.name, "requests per second", client.rate, "authentication_rate", retry)
        self.calls -= 1.0
        self.full_at = now + (client.burst - self.calls) / client.rate

    def is_new(self, now: float) -> bool:
        """Whether a new account would be the same."""
        return not self.streams and now >= self.full_at


class _Until:
    """A stream's requests, up to the moment in which its caller is refused; then its error is raised."""

    def __init__(self, refused: asyncio.Task[ServiceError], requests: AsyncIterator[Any]) -> None:
        self._refused = refused
        self._requests = requests

    def __aiter__(self) -> _Until:
        self._requests = aiter(self._requests)
        return self

    async def __anext__(self) -> Any:
        reading = asyncio.ensure_future(anext(self._requests))
        try:
            await asyncio.wait((reading, self._refused), return_when=asyncio.FIRST_COMPLETED)
            if self._refused.done():
                raise self._refused.result()
            return reading.result()
        finally:
            reading.cancel()


def bearer_token(metadata: Any) -> str:
    """The token that metadata carry; empty for none."""
    for key, value in metadata:
        if key == AUTHORIZATION_KEY and isinstance(value, str) and value.lower().startswith(_BEARER):
            return value[len(_BEARER) :].strip()
    return ""


def _refusing(error: ServiceError) -> Any:
    """A handler that raises an error. It is a stream's, whatever its method, so that it waits for no request."""

    async def answers(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        raise error
        yield

    return grpc.stream_stream_rpc_method_handler(answers)
