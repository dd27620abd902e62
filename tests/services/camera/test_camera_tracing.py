"""Traces that begin at a camera, where its gateway goes away."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.camera_agent import AgentProcess
from tests.support.collector import Collector
from tests.support.stream_gateway import StreamGateway, serving
from tests.support.waiting import until


async def test_a_frame_that_is_lost_says_so_in_its_trace(tmp_path: Path) -> None:
    gateway = StreamGateway()
    gateway.hold.clear()
    gate = [{"name": "gate", "source": "scenes:line?length=20&width=96&height=64"}]

    async def holds_a_frame() -> bool:
        return bool(gateway.sequences())

    with Collector() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with serving(gateway) as port:
            agent = AgentProcess(tmp_path, f"127.0.0.1:{port}", gate, **environment)
            try:
                await until(holds_a_frame, 60)
            except TimeoutError:
                agent.end()
                raise
        # The gateway was told of the camera's span.
        _, trace_id, span_id, _ = gateway.streams[0][0].traceparent.split("-")
        try:
            (span,) = await asyncio.to_thread(collector.trace, trace_id, bool)
        finally:
            agent.end()
    assert (span.span_id, span.service, span.is_error) == (span_id, "camera", True)
    assert span.attributes["error.type"] == "lost"
