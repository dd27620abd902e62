"""A real Kubernetes control plane on this machine, with simulated nodes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.cluster import programs
from tests.support.triton import free_ports

Object = dict[str, Any]

# Who may talk to the API server: the cluster's administrator, and the parts of the control plane with the rights that
# Kubernetes gives each of them.
_GROUPS = {"admin": "system:masters", "system:kube-controller-manager": "", "system:kube-scheduler": ""}
# Seconds that a simulated Pod needs for each step of its life; KWOK draws from these up to as much again.
_STEP_SECONDS = {
    "pod-create": 0.2,
    "pod-init-container-running": 0.2,
    "pod-init-container-completed": 0.5,
    "pod-ready": 1.5,
    "pod-complete": 1.0,
    "pod-delete": 1.5,
}


class ControlPlane:
    """etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK, on loopback, with their logs in a folder.

    All of Kubernetes' own defaults hold: RBAC, the admission plugins with Pod Security, quotas and rates of requests.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._client_port, self._peer_port, port = free_ports(3)
        self.server = f"https://127.0.0.1:{port}"
        self._port = port
        self._tokens = {user: secrets.token_hex(16) for user in _GROUPS}

    def __enter__(self) -> ControlPlane:
        self._write_keys()
        self._start_etcd()
        self._start_api_server()
        for user, program in (
            ("system:kube-controller-manager", "kube-controller-manager"),
            ("system:kube-scheduler", "kube-scheduler"),
        ):
            self._start(program, f"--kubeconfig={self._kubeconfig(user)}", *self._arguments(program))
        self._start_kwok()
        self.wait("the default ServiceAccount", lambda: bool(self.get("serviceaccounts", "default")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()

    # Asking and changing ----------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, given: str = "") -> str:
        """What kubectl prints. Raises `AssertionError` with what it complains of."""
        ran = self.try_kubectl(*arguments, given=given)
        assert ran.returncode == 0, f"kubectl {' '.join(arguments)}: {ran.stderr}"
        return ran.stdout

    def try_kubectl(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Runs kubectl as administrator; `given` is its standard input."""
        return self._run([programs.program("kubectl"), *arguments], given)

    def helm(self, *arguments: str, values: str = "") -> str:
        """What helm prints. Raises `AssertionError` with what it complains of, and where it warns of anything."""
        command = [programs.program("helm"), *arguments, *(["--values", "-"] if values else [])]
        ran = self._run(command, values)
        assert ran.returncode == 0, f"helm {' '.join(arguments)}: {ran.stderr}"
        assert "warning" not in ran.stderr.lower(), ran.stderr
        return ran.stdout

    def start_kubectl(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts kubectl; what it prints and complains of comes through its `stdout`."""
        return subprocess.Popen(
            [programs.program("kubectl"), *arguments],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def get(self, kind: str, namespace: str = "", selector: str = "") -> list[Object]:
        """All objects of a kind, in one namespace or in all."""
        where = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        found: list[Object] = json.loads(self.kubectl("get", kind, *where, "--selector", selector, "-o", "json"))[
            "items"
        ]
        return found

    def create(self, objects: Iterable[Object]) -> None:
        """Creates objects, with the status that they bring."""
        self.kubectl("create", "-f", "-", given=yaml.safe_dump_all(objects))

    def stream(self, path: str) -> Any:
        """An open answer of the API server, such as a watch: one JSON document a line."""
        request = urllib.request.Request(
            self.server + path, headers={"Authorization": f"Bearer {self._tokens['admin']}"}
        )
        return urllib.request.urlopen(request, context=self._tls())

    def wait(self, what: str, holds: Callable[[], bool], seconds: float = 60.0) -> float:
        """Asks until it holds; how many seconds that took. Raises `TimeoutError` where it does not in time."""
        began = time.monotonic()
        while not holds():
            self._check_processes()
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"expected {what} within {seconds:.0f} s")
            time.sleep(0.2)
        return time.monotonic() - began

    # Starting ---------------------------------------------------------------------------------------------------------

    def _start(self, program: str, *arguments: str) -> None:
        self._tell(f"starting {program}")
        with (self._folder / f"{program}.log").open("wb") as log:
            self._processes[program] = subprocess.Popen(
                [programs.program(program), *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._client_port, self._peer_port))
        self._start(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # What a test writes need not outlive the machine.
            "--unsafe-no-fsync",
        )
        self.wait("etcd", lambda: _answers(f"{client}/health", None))

    def _start_api_server(self) -> None:
        self._start("kube-apiserver", *self._arguments("kube-apiserver"))
        self.wait("kube-apiserver", lambda: self._certificate().is_file() and _answers(self._health(), self._tls()))
        self._kubeconfig("admin")

    def _arguments(self, program: str) -> list[str]:
        key = self._folder / "service-account.key"
        if program == "kube-apiserver":
            return [
                f"--etcd-servers=http://127.0.0.1:{self._client_port}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self._port}",
                f"--cert-dir={self._folder / 'certificates'}",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--authorization-mode=Node,RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={key}",
                f"--service-account-key-file={key}",
                "--service-cluster-ip-range=10.0.0.0/16",
                # Nothing in the simulated nodes could call the API server at an address of loopback.
                "--endpoint-reconciler-type=none",
                # Debian's etcd is too old for lists as streams; clients that know ask for plain ones at once.
                "--feature-gates=WatchList=false",
            ]
        if program == "kube-controller-manager":
            return [
                f"--service-account-private-key-file={key}",
                f"--root-ca-file={self._certificate()}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--secure-port=0",
            ]
        return ["--leader-elect=false", "--secure-port=0"]

    def _start_kwok(self) -> None:
        stages = [_stage(stage) for stage in programs.stages()]
        stages.append(_completes_tests(next(stage for stage in stages if stage["metadata"]["name"] == "pod-complete")))
        path = self._folder / "stages.yaml"
        path.write_text(yaml.safe_dump_all(stages))
        self._start(
            "kwok",
            f"--kubeconfig={self._kubeconfig('admin')}",
            f"--config={path}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
            "--cidr=10.64.0.0/12",
        )

    # Who is who -------------------------------------------------------------------------------------------------------

    def _write_keys(self) -> None:
        key = self._folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        lines = [f'{self._tokens[user]},{user},{user},"{group}"' for user, group in _GROUPS.items()]
        (self._folder / "tokens.csv").write_text("\n".join(lines) + "\n")

    def _kubeconfig(self, user: str) -> Path:
        path = self._folder / f"{user.replace(':', '-')}.kubeconfig"
        cluster = {"server": self.server, "certificate-authority": str(self._certificate())}
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(configuration))
        path.chmod(0o600)
        return path

    def _certificate(self) -> Path:
        # The API server signs one for itself, and leaves it here before the authority that signed it.
        return self._folder / "certificates" / "apiserver.crt"

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self._certificate()))

    def _health(self) -> str:
        return f"{self.server}/readyz"

    def _environment(self) -> dict[str, str]:
        folder = self._folder / "helm"
        helm = {f"HELM_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        return {**os.environ, **helm, "KUBECONFIG": str(self._folder / "admin.kubeconfig"), "HOME": str(self._folder)}

    def _run(self, command: list[str], given: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=given, env=self._environment(), capture_output=True, text=True, check=False
        )

    def _check_processes(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = (self._folder / f"{name}.log").read_text()
                raise AssertionError(f"{name} ended with {process.returncode}:\n{log[-2000:]}")


def _stage(stage: Object) -> Object:
    """A step in the life of simulated nodes and Pods, at the pace of these tests."""
    seconds = _STEP_SECONDS.get(stage["metadata"]["name"])
    if seconds is not None:
        milliseconds = round(seconds * 1000)
        stage["spec"]["delay"] = {"durationMilliseconds": milliseconds, "jitterDurationMilliseconds": 2 * milliseconds}
    return stage


def _completes_tests(completes_jobs: Object) -> Object:
    """The step that ends Pods of `helm test` well, made from the one that ends Pods of a Job."""
    stage: Object = json.loads(json.dumps(completes_jobs))
    stage["metadata"]["name"] = "test-complete"
    selector = stage["spec"]["selector"]
    selector["matchLabels"] = {"app.kubernetes.io/component": "test"}
    selector["matchExpressions"] = [one for one in selector["matchExpressions"] if "ownerReferences" not in one["key"]]
    return stage


def _answers(url: str, tls: ssl.SSLContext | None) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2, context=tls):
            return True
    except OSError:
        return False
