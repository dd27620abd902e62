"""Scopes and quotas, before and behind real gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from perception import PerceptionError
from prometheus_client import REGISTRY

from services.runtime.access import AccessInterceptor, Gate
from services.runtime.authentication import Authentication, AuthenticationSettings, Client
from services.runtime.errors import QuotaExceeded
from services.runtime.interceptors import RequestInterceptor
from services.runtime.tokens import digest
from tests.support.issuer import AUDIENCE, ISSUER, Issuer, jwks

PERCEIVE = "/perception.v1.PerceptionService/Perceive"
STREAM = "/perception.v1.PerceptionService/PerceiveStream"
DESCRIBE = "/perception.v1.PerceptionService/DescribeSystem"
ISSUES = Issuer()
UNKNOWN = "/perception.v1.AdministrationService/Restart"


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Knows tokens that are named after their only scope, `all`, `slow`, and those of the issuer."""
    scopes = ["perceive", "watch", "describe", "administer"]
    entries: list[dict[str, Any]] = [{"name": s, "sha256": digest(s), "scopes": [s], "streams": 2} for s in scopes]
    entries.append({"name": "all", "sha256": digest("all"), "scopes": scopes})
    entries.append({"name": "slow", "sha256": digest("slow"), "scopes": scopes, "rate": 0.001, "burst": 1})
    path = tmp_path / "tokens.yaml"
    path.write_text(yaml.safe_dump(entries))
    keys = tmp_path / "jwks.json"
    keys.write_text(jwks([ISSUES]))
    settings = AuthenticationSettings(
        authentication="required",
        authentication_tokens_file=path,
        authentication_jwks=str(keys),
        authentication_issuer=ISSUER,
        authentication_audience=AUDIENCE,
        authentication_rate=1000,
        authentication_streams=1,
    )
    return Gate(Authentication(settings))


class Everything(grpc.GenericRpcHandler):
    """Answers every method with what it was sent. parsed: how many requests came as far as that."""

    def __init__(self) -> None:
        self.parsed = 0

    def service(self, details: Any) -> Any:
        async def one(request: bytes, context: Any) -> bytes:
            return request

        async def many(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for request in requests:
                yield request

        def parse(request: bytes) -> bytes:
            self.parsed += 1
            return request

        if details.method.startswith("/grpc."):
            return None
        if details.method == STREAM:
            return grpc.stream_stream_rpc_method_handler(many, parse)
        return grpc.unary_unary_rpc_method_handler(one, parse)


@asynccontextmanager
async def serving(gate: Gate) -> AsyncIterator[tuple[grpc.aio.Channel, Everything]]:
    server = grpc.aio.server(interceptors=[RequestInterceptor(64), AccessInterceptor(gate)])
    everything = Everything()
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_generic_rpc_handlers([everything])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, everything
    await server.stop(None)


def bearing(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def said(call: Any) -> PerceptionError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return PerceptionError.from_rpc_error(caught.value)


def counted(result: str) -> float:
    return REGISTRY.get_sample_value("perception_access_total", {"result": result}) or 0.0


def breaches(setting: str) -> float:
    return REGISTRY.get_sample_value("perception_limit_breaches_total", {"setting": setting}) or 0.0


@pytest.mark.parametrize(
    ("method", "scope"),
    [(PERCEIVE, "perceive"), (STREAM, "perceive"), (DESCRIBE, "describe"), (UNKNOWN, "administer")],
)
async def test_a_method_needs_its_scope_and_no_other(method: str, scope: str, gate: Gate) -> None:
    async with serving(gate) as (channel, everything):

        def call(token: str) -> Any:
            if method == STREAM:
                return channel.stream_stream(method)(iter([b"x"]), metadata=bearing(token), timeout=20).read()
            return channel.unary_unary(method)(b"x", metadata=bearing(token), timeout=20)

        accepted, refused = counted("accepted"), counted("no_scope")
        assert await call(scope) == b"x"
        assert await call("all") == b"x"
        assert everything.parsed == 2
        for other in {"perceive", "watch", "describe", "administer"} - {scope}:
            error = await said(call(other))
            assert error.code is grpc.StatusCode.PERMISSION_DENIED
            assert error.reason == "SCOPE_MISSING"
            assert str(error) == f"token/{other} lacks the scope {scope}"
        assert everything.parsed == 2, "of what a stranger sends nothing is parsed"
        assert (counted("accepted") - accepted, counted("no_scope") - refused) == (2, 3)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "NO_TOKEN"),
        ((("authorization", "Basic cGVyY2VpdmU6"),), "NO_TOKEN"),
        ((("authorization", "Bearer "),), "NO_TOKEN"),
        ((("authorization", "perceive"),), "NO_TOKEN"),
        (bearing("nobody"), "WRONG_TOKEN"),
        (bearing("perceive perceive"), "WRONG_TOKEN"),
    ],
)
async def test_who_shows_no_token_that_is_known_is_nobody(metadata: Any, reason: str, gate: Gate) -> None:
    async with serving(gate) as (channel, everything):
        for method in (PERCEIVE, DESCRIBE, UNKNOWN):
            error = await said(channel.unary_unary(method)(b"x", metadata=metadata, timeout=20))
            assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
        error = await said(channel.stream_stream(STREAM)(iter([b"x"]), metadata=metadata, timeout=20).read())
        assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
        assert everything.parsed == 0


async def test_a_stranger_is_refused_before_the_request_has_come(gate: Gate) -> None:
    """Whoever begins a call and sends nothing holds no place."""
    async with serving(gate) as (channel, _):
        # To the server it looks like a call of one request that is still on its way.
        error = await said(channel.stream_unary(PERCEIVE)(timeout=20))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "NO_TOKEN")


async def test_health_needs_no_token(gate: Gate) -> None:
    async with serving(gate) as (channel, _):
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_streams_are_counted_while_they_are_open(gate: Gate) -> None:
    """Two for this client; another's do not count, and one that has ended makes room."""
    async with serving(gate) as (channel, _):

        async def opened(token: str) -> Any:
            call = channel.stream_stream(STREAM)(metadata=bearing(token), timeout=60)
            await call.write(b"x")
            assert await call.read() == b"x"
            return call

        first, _second, _other = await opened("perceive"), await opened("perceive"), await opened("all")
        error = await said(opened("perceive"))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (error.reason, error.retry_after_seconds) == ("QUOTA_EXCEEDED", 5.0)
        assert error.setting == "authentication_streams"
        assert str(error) == "token/perceive has used up its streams, 2"
        assert "token/all" in str(await said(opened("all")))
        await first.done_writing()
        assert await first.code() is grpc.StatusCode.OK
        await opened("perceive")


async def test_a_quota_names_its_setting_and_is_counted_as_a_limit(gate: Gate) -> None:
    before, counted_before = breaches("authentication_rate"), counted("too_many_requests")
    async with serving(gate) as (channel, _):
        call = channel.unary_unary(PERCEIVE)
        assert await call(b"x", metadata=bearing("slow"), timeout=20) == b"x"
        error = await said(call(b"x", metadata=bearing("slow"), timeout=20))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert error.setting == "authentication_rate"
    assert breaches("authentication_rate") == before + 1
    assert counted("too_many_requests") == counted_before + 1


def withdraw(tmp_path: Path) -> None:
    """Takes `perceive` out of the file, and takes the scope of `all` from it."""
    path = tmp_path / "tokens.yaml"
    entries = [entry for entry in yaml.safe_load(path.read_text()) if entry["name"] != "perceive"]
    path.write_text(yaml.safe_dump([{**e, "scopes": ["watch"]} if e["name"] == "all" else e for e in entries]))


async def test_a_stream_ends_with_its_token_and_others_go_on(gate: Gate, tmp_path: Path) -> None:
    """One token is withdrawn, one loses its scope, one has expired at its issuer; another one's stream goes on."""
    before = counted("withdrawn")
    # Clocks differ by ten seconds at most: five are left.
    short, long = ISSUES.token(exp=int(time.time()) - 5), ISSUES.token(sub="otto")
    async with serving(gate) as (channel, _):
        calls = {}
        for token in ("perceive", "all", short, long):
            calls[token] = channel.stream_stream(STREAM)(metadata=bearing(token), timeout=60)
            await calls[token].write(b"x")
            assert await calls[token].read() == b"x"
        withdraw(tmp_path)
        ended = {token: await said(calls[token].read()) for token in ("perceive", "all", short)}
        assert (ended["perceive"].code, ended["perceive"].reason) == (grpc.StatusCode.UNAUTHENTICATED, "WRONG_TOKEN")
        assert str(ended["perceive"]) == "the token is not known"
        assert (ended["all"].reason, str(ended["all"])) == ("SCOPE_MISSING", "token/all lacks the scope perceive")
        assert (ended[short].code, ended[short].reason) == (grpc.StatusCode.UNAUTHENTICATED, "WRONG_TOKEN")
        assert "expired" in str(ended[short])
        assert counted("withdrawn") == before + 3
        await calls[long].write(b"y")
        assert await calls[long].read() == b"y"
        await calls[long].done_writing()
        assert await calls[long].code() is grpc.StatusCode.OK
        # Their places are free again.
        assert gate._accounts["token/perceive"].streams == gate._accounts["issuer/otto"].streams == 0


async def test_what_a_caller_sends_when_it_is_refused_is_not_answered(gate: Gate, tmp_path: Path) -> None:
    """Frames that come all the time keep no stream open."""
    async with serving(gate) as (channel, _):
        call = channel.stream_stream(STREAM)(metadata=bearing("perceive"), timeout=60)

        async def flood() -> None:
            while not call.done():
                await call.write(b"x")
                assert await call.read() in (b"x", grpc.aio.EOF)

        withdraw(tmp_path)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
            await asyncio.wait_for(flood(), 60)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("services.runtime.access.time.monotonic", lambda: now[0])
    return now


class Anybody:
    """Takes a token for the name of a client with 4 calls a second, 8 at once."""

    async def client(self, token: str) -> Client:
        return Client(token, frozenset({"perceive"}), rate=4.0, burst=8.0, streams=1)


async def admitted(gate: Gate, name: str, calls: int = 1) -> int:
    """How many of these calls one after the other may be made."""
    count = 0
    for _ in range(calls):
        try:
            await gate.admit(name, "perceive")
        except QuotaExceeded:
            continue
        count += 1
    return count


async def test_a_bucket_is_filled_at_its_rate_up_to_its_burst(clock: list[float]) -> None:
    gate = Gate(Anybody())  # type: ignore[arg-type]
    assert await admitted(gate, "a", 20) == 8
    assert await admitted(gate, "b", 20) == 8, "one client's calls are not another's"
    with pytest.raises(QuotaExceeded) as caught:
        await gate.admit("a", "perceive")
    assert (caught.value.quota, caught.value.limit) == ("requests per second", 4.0)
    assert caught.value.retry_after_seconds == pytest.approx(0.25)
    clock[0] += 0.26
    assert await admitted(gate, "a", 20) == 1
    clock[0] += 1.0
    assert await admitted(gate, "a", 20) == 4
    clock[0] += 1000.0
    assert await admitted(gate, "a", 20) == 8


async def test_clients_that_went_are_forgotten_and_none_that_would_gain_by_it(clock: list[float]) -> None:
    gate = Gate(Anybody())  # type: ignore[arg-type]
    assert await admitted(gate, "greedy", 20) == 8
    watching = await gate.identify("watching", "perceive")
    with gate.stream(watching):
        for number in range(5000):
            await admitted(gate, f"guest {number}")
            clock[0] += 0.00012
        assert await admitted(gate, "greedy", 20) == 2, "0.6 seconds have passed"
        for number in range(20_000):
            await admitted(gate, f"visitor {number}")
            clock[0] += 0.01
        assert len(gate._accounts) < 3000
        with pytest.raises(QuotaExceeded), gate.stream(watching):
            pass
