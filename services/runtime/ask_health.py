"""Asks a service how it is, for what cannot ask by gRPC: `python -m services.runtime.ask_health localhost:50050`.

Exit status 0 where it serves; else 1, with what it said on standard error.
"""

from __future__ import annotations

import argparse
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def ask(address: str, seconds: float = 5.0) -> str:
    """What the standard health service says at an address, `SERVING` where all is well."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m services.runtime.ask_health", description="Asks a service how it is."
    )
    parser.add_argument("address", help="such as localhost:50050")
    asked = parser.parse_args().address
    if (said := ask(asked)) != "SERVING":
        sys.exit(f"{asked}: {said}")
