"""Perceiving a picture that a person dropped onto the page."""

from __future__ import annotations

import logging
import time
import uuid
from http import HTTPStatus

import grpc
import grpc.aio
from aiohttp import web
from perception import PerceptionError
from perception.channels import channel_options
from perception.connections import open_async_channel
from perception.v1 import geometry_pb2, image_pb2, perception_pb2, perception_pb2_grpc

from services.runtime import metrics, tracing
from services.runtime.errors import RequestIncomplete
from services.viewer.bodies import read_body
from services.viewer.messages import picture_message
from services.viewer.settings import ViewerSettings

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}

_PERCEIVE = "/perception.v1.PerceptionService/Perceive"

log = logging.getLogger(__name__)


class Pictures:
    """Takes pictures from the page to the gateway, a bounded number at once."""

    def __init__(self, settings: ViewerSettings) -> None:
        self._settings = settings
        self._at_work = 0
        options = [
            *channel_options(settings.max_message_bytes),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = (
            open_async_channel(settings.gateway_url, options, settings.tls_as_caller, settings.token_file)
            if settings.gateway_url
            else None
        )
        self._stub: perception_pb2_grpc.PerceptionServiceAsyncStub | None = (
            perception_pb2_grpc.PerceptionServiceStub(self._channel) if self._channel else None
        )

    async def perceive(self, request: web.Request) -> web.Response:
        """POST of an encoded picture; answers with its scene, or with JSON `{"error": …}` that a person understands."""
        span = tracing.tracer.frame(
            "POST /perceive", {"http.request.method": "POST"}, traceparent=request.headers.get("traceparent", "")
        )
        with span:
            response = await self._answer(request)
            span.set("http.response.status_code", response.status)
            if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                span.fail(str(response.status), response.text or "")
        metrics.VIEWER_PICTURES.labels(str(response.status)).inc()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        limit = self._settings.max_image_bytes
        if self._stub is None:
            return _refuse(HTTPStatus.NOT_FOUND, "this viewer has no gateway (GATEWAY_URL is empty)")
        if request.content_length is not None and request.content_length > limit:
            return _too_large(request.content_length, limit)
        if self._at_work == self._settings.max_uploads:
            metrics.LIMIT_BREACHES.labels("max_uploads").inc()
            reason = f"{self._at_work} pictures are at work already (MAX_UPLOADS); try again"
            return _refuse(HTTPStatus.TOO_MANY_REQUESTS, reason)
        self._at_work += 1
        try:
            return await self._perceive(await read_body(request, self._settings.receive_seconds), self._stub)
        except web.HTTPRequestEntityTooLarge:  # sent in chunks, so that its size was not told
            return _too_large(limit + 1, limit)
        except RequestIncomplete as error:
            return _refuse(HTTPStatus.REQUEST_TIMEOUT, f"{error} (RECEIVE_SECONDS)")
        finally:
            self._at_work -= 1

    async def _perceive(self, picture: bytes, stub: perception_pb2_grpc.PerceptionServiceAsyncStub) -> web.Response:
        request = perception_pb2.PerceiveRequest(
            image=image_pb2.Image(encoded=picture),
            panoptic_format=perception_pb2.PANOPTIC_FORMAT_PNG,
            mask_format=geometry_pb2.MASK_FORMAT_BOX,
        )
        request_id = uuid.uuid4().hex
        started = time.perf_counter()
        try:
            with tracing.tracer.call(_PERCEIVE, {"server.address": self._settings.gateway_url}):
                scene = await stub.Perceive(
                    request,
                    timeout=self._settings.perceive_timeout_seconds,
                    metadata=(("x-request-id", request_id), *tracing.tracer.headers()),
                )
        except grpc.aio.AioRpcError as error:
            log.warning("picture failed", extra={"code": error.code().name, "picture_request_id": request_id})
            status = _STATUS.get(error.code(), HTTPStatus.BAD_GATEWAY)
            return _refuse(status, str(PerceptionError.from_rpc_error(error, request_id)))
        body = picture_message(scene, (time.perf_counter() - started) * 1e3)
        return web.Response(body=body, content_type="application/octet-stream")

    async def close(self) -> None:
        """Closes the connection to the gateway."""
        if self._channel:
            await self._channel.close()


def _too_large(found: int, limit: int) -> web.Response:
    metrics.LIMIT_BREACHES.labels("max_image_bytes").inc()
    reason = f"expected a picture of at most {limit} bytes (MAX_IMAGE_BYTES), found at least {found}"
    return _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)


def _refuse(status: HTTPStatus, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
