"""How a channel to replicas behaves: calls spread over all of them, new ones are found, and none fails with one."""

from __future__ import annotations

import json
from collections.abc import Sequence

_RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.02s",
    "maxBackoff": "0.2s",
    "backoffMultiplier": 3,
    # CANCELLED by the server, that is: what grpc.aio answers to a call that arrives in the moment in which it stops.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
# Enough for all calls of a replica that dies; where everything is down, trying again soon stops.
_THROTTLING = {"maxTokens": 400, "tokenRatio": 1}


def channel_options(max_message_bytes: int, retried: Sequence[str] = ("",)) -> list[tuple[str, str | int]]:
    """Options of a channel whose name stands for replicas, such as `dns:///gateway.vision.svc.cluster.local:50050`.

    max_message_bytes: the largest message, either way. retried: calls that may be made again on another replica where
    one stops, answers UNAVAILABLE or dies over them, as "package.Service/Method", within the call's own deadline; an
    empty string stands for all.
    """
    names = [dict(zip(("service", "method"), name.split("/"), strict=False)) if name else {} for name in retried]
    service_config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": names, "retryPolicy": _RETRY}],
        "retryThrottling": _THROTTLING,
    }
    return [
        ("grpc.service_config", json.dumps(service_config)),
        # Of one message that may have to be sent again; 256 KiB where not set, which is less than a picture.
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes),
        # Replicas are looked up again where a connection ends, as servers let each after some time; 30 s where not set.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # A process that hangs, or a node that vanished without a word, is noticed within 15 s: its calls end then.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]
