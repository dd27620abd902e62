"""`python -m services.gateway`: Turns frames into scenes."""

import asyncio
import logging

from perception.v1 import perception_pb2_grpc

from services.gateway.perceiver import Perceiver
from services.gateway.servicer import PerceptionServicer
from services.gateway.settings import GatewaySettings
from services.gateway.streams.registry import Streams
from services.gateway.tasks import connect
from services.gateway.taxonomy import Taxonomy, TaxonomyError
from services.runtime.access import AccessInterceptor, Gate
from services.runtime.authentication import Authentication
from services.runtime.server import Served, Service, run
from services.runtime.settings import read_settings

log = logging.getLogger(__name__)


def main() -> None:
    """Serves until SIGTERM."""
    settings = read_settings(GatewaySettings, "services.gateway", "Turns frames into scenes.")
    try:
        taxonomy = Taxonomy.load(settings.taxonomy)
    except TaxonomyError as error:
        raise SystemExit(f"TAXONOMY: {error}") from None

    async def build() -> Service:
        tasks = connect(settings)
        perceiver = Perceiver(settings, taxonomy, tasks)
        streams = Streams(settings, perceiver)
        servicer = PerceptionServicer(perceiver, streams, settings, taxonomy, tasks)

        async def ready() -> bool:
            serving = await asyncio.gather(
                *(client.serving(settings.health_interval_seconds) for client in tasks.values())
            )
            return any(serving)

        async def close() -> None:
            perceiver.close()
            await asyncio.gather(*(client.close() for client in tasks.values()))

        served = Served(
            "perception.v1.PerceptionService",
            lambda server: perception_pb2_grpc.add_PerceptionServiceServicer_to_server(servicer, server),
        )
        return Service([served], ready, close, streams.stop, _access(settings))

    run("gateway", settings, build)


def _access(settings: GatewaySettings) -> AccessInterceptor | None:
    if settings.authentication == "off":
        return None
    if settings.tls_as_server is None:
        log.warning("callers' tokens come in plain text: TLS_CERTIFICATE_FILE is not set")
    return AccessInterceptor(Gate(Authentication(settings)))


if __name__ == "__main__":
    main()
