"""The life of a service: start, health, metrics, drain."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc.aio
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server
from threadpoolctl import threadpool_limits

from services.runtime import logs, memory, metrics, tracing
from services.runtime.access import AccessInterceptor
from services.runtime.interceptors import MOST_BYSTANDERS, RequestInterceptor
from services.runtime.settings import ServiceSettings
from services.runtime.tls import server_credentials

LIVENESS = "liveness"
"""Name in the health service that says whether the process works, whatever its model does."""

_FOR_EVER_MILLISECONDS = 2**31 - 1
"""gRPC's word for it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """One gRPC service of a process.

    name: its full name, such as `perception.v1.DetectionService`. register: adds its servicer to a server.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]


@dataclass(frozen=True)
class Service:
    """What a process serves.

    ready: whether it can do its work now; health follows it. close: gives back what the servicers hold. drain: told
    that the process is going to stop; calls that would stay open then end by themselves. access: lets calls in; none:
    whoever reaches the port may call, and ask by reflection what there is.
    """

    served: Sequence[Served]
    ready: Callable[[], Awaitable[bool]]
    close: Callable[[], Awaitable[None]]
    drain: Callable[[], None] = lambda: None
    access: AccessInterceptor | None = None


def run(name: str, settings: ServiceSettings, build: Callable[[], Awaitable[Service]]) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Ends the program with status 1 where a port is taken."""
    logs.set_up(name, settings.log_level)
    tracing.start(name)
    memory.keep_large_arrays()
    # Matrices are small here, and threads that wait for the next one spin.
    threadpool_limits(1, "blas")
    uvloop.run(_serve(name, settings, build))


async def _serve(name: str, settings: ServiceSettings, build: Callable[[], Awaitable[Service]]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    service = await build()
    server = grpc.aio.server(
        interceptors=[_interceptor(settings), *([service.access] if service.access else [])],
        options=_options(settings),
        # The interceptor keeps the limits; this one bounds what arrives before it is asked.
        maximum_concurrent_rpcs=settings.most_calls + 2 * MOST_BYSTANDERS,
    )
    # Another one, so that whoever fills the places of the public port leaves those of probes free.
    probes = grpc.aio.server(
        interceptors=[_interceptor(settings)], options=_options(settings), maximum_concurrent_rpcs=2 * MOST_BYSTANDERS
    )
    health = HealthServicer()
    for each in (server, probes):
        health_pb2_grpc.add_HealthServicer_to_server(health, each)
    for served in service.served:
        served.register(server)
    names = [served.name for served in service.served]
    if service.access is None:
        reflection.enable_server_reflection(
            [*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME], server
        )
    # Until the model has answered once, nothing is well; left alone, gRPC's health would say the opposite.
    for name in ["", *names]:
        await health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    await health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
    metrics.LIMIT.labels("requests").set(settings.max_concurrent_requests)
    port, metrics_server = _bind(server, probes, settings)
    await server.start()
    await probes.start()
    memory.settle()
    log.info("serving", extra={"port": port, "metrics_port": metrics_server.server_port, "services": names})
    following = asyncio.create_task(_follow(service.ready, health, ["", *names], settings.health_interval_seconds))

    await stop.wait()
    # Not serving first, so that callers and load balancers turn away; then the requests at work; then the end.
    following.cancel()
    await health.enter_graceful_shutdown()
    log.info("draining", extra={"seconds": settings.drain_seconds})
    service.drain()
    await server.stop(settings.drain_seconds)
    await probes.stop(None)
    await service.close()
    tracing.stop()
    metrics_server.shutdown()
    log.info("stopped")


def _interceptor(settings: ServiceSettings) -> RequestInterceptor:
    return RequestInterceptor(
        settings.max_concurrent_requests,
        heeds_deadlines=settings.admission_control,
        default_timeout_seconds=settings.default_timeout_seconds,
        max_message_bytes=settings.max_message_bytes,
        max_metadata_bytes=settings.max_metadata_bytes,
        receive_seconds=settings.receive_seconds,
    )


def _bind(server: grpc.aio.Server, probes: grpc.aio.Server, settings: ServiceSettings):  # type: ignore[no-untyped-def] # wsgiref's server
    address = f"{settings.host}:{settings.port}"
    try:
        if settings.tls_as_server is None:
            port = server.add_insecure_port(address)
        else:
            credentials = server_credentials(settings.tls_as_server, require_clients=settings.requires_certificates)
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise SystemExit(f"PORT: cannot listen on {address}: {error}") from None
    try:
        if settings.health_port:
            probes.add_insecure_port(f"{settings.host}:{settings.health_port}")
    except RuntimeError as error:
        raise SystemExit(f"HEALTH_PORT: cannot listen on {settings.host}:{settings.health_port}: {error}") from None
    try:
        metrics_server, _ = start_http_server(settings.metrics_port, settings.host)
    except OSError as error:
        raise SystemExit(f"METRICS_PORT: cannot listen on {settings.host}:{settings.metrics_port}: {error}") from None
    return port, metrics_server


def _options(settings: ServiceSettings) -> list[tuple[str, int]]:
    return [
        # What is a little too large gets to the interceptor, which names the limit. gRPC takes a message in as a whole
        # before it looks at its size, so that its own limit keeps no memory free.
        ("grpc.max_receive_message_length", 2 * settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Of identity alone: a megabyte of gzip may hold a thousand, which gRPC unpacks before it looks at the size.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_metadata_size", 2 * settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", 2 * settings.max_metadata_bytes),
        # Without this a second process on the same port would silently take half of the calls.
        ("grpc.so_reuseport", 0),
        # A caller that vanished without a word is noticed, and its calls are ended, within half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Callers may ask likewise.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.max_connection_age_ms", _milliseconds(settings.max_connection_age_seconds)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.max_connection_age_grace_seconds)),
    ]


def _milliseconds(seconds: float) -> int:
    return round(min(seconds * 1e3, _FOR_EVER_MILLISECONDS))


async def _follow(
    ready: Callable[[], Awaitable[bool]], health: HealthServicer, names: Sequence[str], interval: float
) -> None:
    """Keeps the health of every service name at what `ready` says."""
    last: bool | None = None
    while True:
        try:
            now = await ready()
        except Exception:  # a defect; health must go on being told
            log.exception("cannot tell whether the service is ready")
            now = False
        if now is not last:
            status = health_pb2.HealthCheckResponse.SERVING if now else health_pb2.HealthCheckResponse.NOT_SERVING
            for name in names:
                await health.set(name, status)
            log.info("ready" if now else "not ready")
            last = now
        await asyncio.sleep(interval)
