"""Every process of the local stack is restarted, one after the other, under load, and no request is lost.

There are two of each, on two loopback addresses, as there are two Pods of each on a cluster; but one camera agent,
because a camera is opened once, and one page for people.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import simplejpeg
import yaml
from perception import Frame, PerceptionClient, StreamAnswer

from services.stack.layout import Ports, ProcessSpec, processes, watching
from services.stack.supervisor import Supervisor
from tests.support.cameras import frame
from tests.support.contract_models import write_model
from tests.support.load import Load
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.name_server import NameServer
from tests.support.service import eventually
from tests.support.stack import TAXONOMY, free_range

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

HOSTS = ("127.0.0.2", "127.0.0.3")
TASKS = ("detection", "semantic_segmentation")
AGE_SECONDS = 1
FRAMES_PER_SECOND = 10


def replicas(specs: list[ProcessSpec], host: str, names: NameServer) -> Iterator[ProcessSpec]:
    """The processes of a stack on another address; whom they call they find by name."""
    for spec in specs:
        port = spec.env.get("PORT") or next(word for word in spec.argv if word.startswith("--grpc-port=")).split("=")[1]
        names.addresses[f"port-{port}.test"].append(host)
        argv = [word.replace("-address=127.0.0.1", f"-address={host}") for word in spec.argv]
        env = {key: by_name(value, names) if key.endswith("_URL") else value for key, value in spec.env.items()}
        if spec.name == "triton":
            argv += [f"--grpc-max-connection-age={AGE_SECONDS * 1000}", "--grpc-max-connection-age-grace=10000"]
        else:
            env |= {"HOST": host, "MAX_CONNECTION_AGE_SECONDS": str(AGE_SECONDS), "STREAM_DEADLINE_SECONDS": "30"}
        yield replace(spec, name=f"{spec.name} {host}", argv=argv, env=env, health=f"{host}:{port}")


def by_name(address: str, names: NameServer) -> str:
    """What finds all replicas of the process that listens there."""
    port = int(address.rpartition(":")[2])
    return names.target(f"port-{port}.test", port)


class Restarts:
    """Restarts processes as a cluster does: out of the name, SIGTERM, drained; a new one, and into the name again."""

    def __init__(self, supervisor: Supervisor, names: NameServer) -> None:
        self._supervisor = supervisor
        self._names = names

    def restart(self, spec: ProcessSpec) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        host, _, port = str(spec.health).rpartition(":")
        addresses = self._names.addresses[f"port-{port}.test"]
        if host in addresses:
            addresses.remove(host)
        if spec.name.startswith("triton"):
            # As the chart's preStop: a Triton that stops takes its models away before its connections.
            time.sleep(1.1 * AGE_SECONDS + 1)
        process = self._supervisor.process(spec.name)
        process.terminate()
        assert process.wait(30) == 0, spec.name
        self._supervisor.spawn(spec.name)
        eventually(lambda: self._supervisor.serves(spec.name))
        addresses.append(host)
        return time.monotonic() - began


class Camera:
    """A camera in this process, whose stream goes on until the end of the `with`."""

    def __init__(self, address: str) -> None:
        self.answers: list[StreamAnswer] = []
        self.sent = 0
        self._client = PerceptionClient(address)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._client.close()

    def _watch(self) -> None:
        for answer in self._client.stream(self._frames(), camera="yard", track=True):
            self.answers.append(answer)

    def _frames(self) -> Iterator[Frame]:
        while not self._end.wait(1 / FRAMES_PER_SECOND):
            self.sent += 1
            yield frame(self.sent)


def test_no_request_is_lost(tmp_path: Path, triton_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_ENVIRONMENT", os.fspath(triton_environment))
    (tmp_path / "contract.yaml").write_text(TAXONOMY)
    for task in TASKS:
        write_model(tmp_path / "models", task)
    ports = Ports(free_range())
    lines, agent_file = tmp_path / "gate.jsonl", tmp_path / "cameras.yaml"
    jpegs = [simplejpeg.encode_jpeg(frame(index).image, 95, "RGB") for index in range(60)]
    with ExitStack() as running:
        names = running.enter_context(NameServer())
        twice = [
            spec
            for host in HOSTS
            for spec in replicas(
                processes(tmp_path / "models", str(tmp_path / "contract.yaml"), "triton", ports, tmp_path / host),
                host,
                names,
            )
        ]
        gateway = by_name(f":{ports.gateway}", names)
        source = running.enter_context(mjpeg_camera(jpegs, FRAMES_PER_SECOND))
        camera = {"name": "gate", "source": source, "sinks": [{"kind": "jsonl", "path": str(lines)}]}
        places = {"host": "127.0.0.1", "port": ports.camera, "metrics_port": ports.metrics("camera")}
        agent_file.write_text(yaml.safe_dump({"gateway": gateway, "cameras": [camera], **places}))
        specs = [*twice, *watching(ports, agent_file)]
        supervisor = running.enter_context(Supervisor(specs, tmp_path / "logs"))
        supervisor.start()
        eventually(lambda: lines.exists() and '"scene"' in lines.read_text())
        restarts = Restarts(supervisor, names)
        with Load(gateway, callers=2) as load, Camera(gateway) as yard:
            eventually(lambda: bool(yard.answers))
            took = {spec.name: restarts.restart(spec) for spec in specs}
            answered = len(yard.answers)
            eventually(lambda: len(yard.answers) > answered + FRAMES_PER_SECOND)
        supervisor.process("camera").terminate()
        assert supervisor.process("camera").wait(20) == 0
    print("\n" + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items()))
    check_requests(load)
    check_stream(yard)
    check_agent(lines)


def check_requests(load: Load) -> None:
    print(f"{load.answered} requests, {len(load.failures)} failed, the slowest took {load.slowest_seconds:.2f} s")
    assert load.answered > 100
    assert not load.failures, load.failures[:5]


def check_stream(yard: Camera) -> None:
    """Every frame answered once, over at least the two gateways' restarts."""
    epochs = {answer.epoch for answer in yard.answers}
    results = Counter(answer.dropped.reason if answer.dropped else "scene" for answer in yard.answers)
    print(f"a client's camera: {yard.sent} frames, {dict(results)}, {len(epochs)} epochs")
    assert [answer.sequence for answer in yard.answers] == list(range(1, yard.sent + 1))
    assert not [answer.error for answer in yard.answers if answer.error]
    assert results.keys() <= {"scene", "superseded"}
    assert len(epochs) > 1
    statuses = [status for answer in yard.answers if answer.scene for status in answer.scene.task_status.values()]
    assert {status.state for status in statuses} <= {"OK", "SKIPPED"}, [s for s in statuses if s.state == "FAILED"][:5]


def check_agent(lines: Path) -> None:
    """Every frame answered once, in each of the agent's two lives."""
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    sequences = [record["sequence"] for record in records]
    second = sequences.index(1, 1)
    print(f"an agent's camera: {Counter(record['result'] for record in records)}, restarted after {second} answers")
    assert sequences == [*range(1, second + 1), *range(1, len(sequences) - second + 1)]
    assert {record["result"] for record in records} <= {"scene", "dropped"}
