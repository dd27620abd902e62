"""Starts real Triton servers for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.stack.triton import TritonPorts, remove_shared_memory, triton_command


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class TritonServer:
    """A tritonserver process over a model repository, on ports of its own that it keeps over restarts."""

    def __init__(self, repository: Path, models: list[str], run_directory: Path) -> None:
        self.ports = TritonPorts(*free_ports(3))
        self.url = f"127.0.0.1:{self.ports.grpc}"
        self.log = run_directory / "triton.log"
        self._models = models
        self.command = triton_command(repository, models, run_directory, self.ports)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_seconds: float = 60.0) -> TritonServer:
        """Starts the server and waits until every model answered that it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command.argv,
                env=dict(self.command.env),
                cwd=self.command.cwd,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_seconds
        while not self._serves():
            if self._process.poll() is not None:
                raise RuntimeError(f"tritonserver ended with {self._process.returncode}:\n{self._last_words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise TimeoutError(f"tritonserver was not ready in {timeout_seconds} s:\n{self._last_words()}")
            time.sleep(0.05)
        return self

    def _serves(self) -> bool:
        with grpc.insecure_channel(self.url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                return all(
                    stub.ModelReady(service_pb2.ModelReadyRequest(name=name), timeout=1).ready for name in self._models
                ) and bool(stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=1).live)
            except grpc.RpcError:
                return False

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def stub_processes(self) -> list[int]:
        """The ids of the processes that run the models, one per instance."""
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        return sorted(int(pid) for path in threads for pid in path.read_text().split())

    def stop(self) -> None:
        """Stops the server as an operator does, with SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends the server at once, as the kernel does when memory runs out, and clears away what it left."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None
        remove_shared_memory(self.command.shared_memory_prefix)
