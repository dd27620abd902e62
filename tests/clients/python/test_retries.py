"""What a client's channel makes again, and how much of it: a system in trouble is not buried under attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count

import grpc
import pytest
from perception import AsyncPerceptionClient, PerceptionError

from tests.clients.python.server import Gateway, serving

BUDGET = 200
"""Failures without a success until nothing is made again: half of the tokens in `perception.channels`."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving() as running:
        yield running


async def attempts_of(gateway: Gateway, calls: int, code: grpc.StatusCode) -> int:
    """How often a gateway is called that answers every call of a client with this code."""
    attempts = count()

    def refuse(context: grpc.ServicerContext) -> None:
        next(attempts)
        context.abort(code, "in trouble")

    gateway.behaviour = refuse
    async with AsyncPerceptionClient(gateway.address) as client:

        async def call() -> None:
            with pytest.raises(PerceptionError):
                await client.perceive(b"a picture")

        for _ in range(calls // 50):
            await asyncio.gather(*(call() for _ in range(50)))
    return next(attempts)


async def test_what_is_unavailable_is_tried_again_within_a_budget(gateway: Gateway) -> None:
    attempts = await attempts_of(gateway, 500, grpc.StatusCode.UNAVAILABLE)
    assert 500 < attempts <= 500 + BUDGET


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_an_overloaded_system_is_left_alone(gateway: Gateway, code: grpc.StatusCode) -> None:
    """Its error says when to come again; nothing is sent twice, early or at once."""
    assert await attempts_of(gateway, 50, code) == 50
