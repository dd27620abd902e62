"""Starts real Triton servers for tests."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import grpc
import psutil
from perception import TLS
from perception.connections import open_channel
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.stack.triton import DEFAULT_ENVIRONMENT, TritonPorts, triton_command


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

    def __init__(
        self,
        repository: Path,
        models: Sequence[str],
        run_directory: Path,
        environment: Path = DEFAULT_ENVIRONMENT,
        host: str = "127.0.0.1",
        ports: TritonPorts | None = None,
        arguments: Sequence[str] = (),
        tls: TLS | None = None,
    ) -> None:
        """host: an address of the loopback interface. ports: free ones where not given. arguments: further ones.

        tls: how it is called by this test.
        """
        self._tls = tls
        self.repository = repository
        self.ports = ports or TritonPorts(*free_ports(3))
        self.host = host
        self.url = f"{host}:{self.ports.grpc}"
        command = triton_command(repository, models, run_directory, self.ports, environment)
        argv = (argument.replace("-address=127.0.0.1", f"-address={host}") for argument in command.argv)
        self.command = replace(command, argv=(*argv, *arguments))
        self.log = run_directory / "triton.log"
        self._models = models
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_seconds: float = 60.0) -> TritonServer:
        """Starts the server and waits until it and every model say that they are ready."""
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
                self.kill()
                raise TimeoutError(f"tritonserver was not ready in {timeout_seconds} s:\n{self._last_words()}")
            time.sleep(0.05)
        return self

    def _serves(self) -> bool:
        with open_channel(self.url, (), self._tls) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                return bool(stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=1).ready) and all(
                    stub.ModelReady(service_pb2.ModelReadyRequest(name=name), timeout=1).ready for name in self._models
                )
            except grpc.RpcError:
                return False

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def stub_processes(self) -> dict[str, int]:
        """The processes that run the models: the id by the name of the model."""
        assert self._process is not None
        return stub_processes(self._process.pid, self._models)

    def stop(self) -> None:
        """Stops the server as an operator does, with SIGTERM."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends the server at once, as the kernel does when memory runs out."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None


def stub_processes(server: int, models: Sequence[str]) -> dict[str, int]:
    """The processes that run models of a server's process: the id by the name of the model."""
    found = {}
    # Not by /proc's own lists of children, which leave some out while another one ends.
    for child in psutil.Process(server).children():
        with suppress(psutil.NoSuchProcess):
            arguments = child.cmdline()
            found |= {name: child.pid for name in models if f"{name}_0_0" in arguments}
    return found
