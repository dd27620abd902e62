"""Who may call: certificates and tokens, asked for by real processes and shown, or not, from outside."""

from __future__ import annotations

import re
import socket
import ssl
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest
import simplejpeg
import yaml
from cryptography import x509
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from perception import (
    TLS,
    PerceptionClient,
    PerceptionError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from perception.caller import NOBODY, VARIABLES, Caller
from perception.connections import open_channel
from perception.convert import image_to_message
from perception.v1 import detection_pb2, detection_pb2_grpc
from typer.testing import CliRunner

from loadtest.cli import app as loadtest
from loadtest.report import read as read_result
from loadtest.result import Result as LoadResult
from models.datasets.sample import Category, Sample, Segment
from models.evaluation.plan import Plan, Step
from models.evaluation.result import Evaluation, EvaluationError
from models.evaluation.run import run_plan
from models.evaluation.subjects import DetectionSubject
from services.runtime.ask_health import ask
from services.runtime.tokens import digest, new_token
from services.stack.triton import remove_shared_memory
from tests.support.camera_agent import AgentProcess
from tests.support.certificates import Authority, environment
from tests.support.contract_models import picture, write_model
from tests.support.issuer import AUDIENCE, ISSUER, Issuer, jwks
from tests.support.load import Load
from tests.support.pairs import ratio_of_medians
from tests.support.service import ServiceProcess, eventually
from tests.support.stack import TAXONOMY
from tests.support.triton import TritonServer, free_ports

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

# Certificates are shown when a connection begins, and of these there are many.
AGE = {"MAX_CONNECTION_AGE_SECONDS": 1}
ENTRIES: tuple[dict[str, Any], ...] = (
    {"name": "camera", "scopes": ["perceive"]},
    {"name": "operator", "scopes": ["describe", "watch"]},
    {"name": "greedy", "scopes": ["perceive"], "rate": 2, "burst": 4},
    {"name": "past", "scopes": ["perceive"], "expires": "2020-01-01"},
)


def write_tokens(path: Path, entries: Sequence[dict[str, Any]] = ENTRIES) -> Path:
    """Each entry's token is its name, where it has none."""
    path.write_text(yaml.safe_dump([{"sha256": digest(entry["name"]), **entry} for entry in entries]))
    return path


@dataclass(frozen=True)
class System:
    """A gateway that asks for certificates and tokens, and a detection service that asks for certificates."""

    authority: Authority
    caller: TLS
    issuer: Issuer
    tokens: Path
    detection: ServiceProcess
    gateway: ServiceProcess
    health_ports: dict[str, int]

    def client(self, token: str | None = "camera", tls: TLS | None = None) -> PerceptionClient:
        return PerceptionClient(self.gateway.address, tls=tls or self.caller, token=token)

    def certificates(self, *names: str) -> None:
        """New ones for these processes."""
        for name in names:
            self.authority.issue(name)

    def serial(self, process: ServiceProcess) -> int:
        """Of the certificate that a process shows."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        caller = self.authority.issue("observer")
        context.load_cert_chain(str(caller.certificate), str(caller.key))
        context.set_alpn_protocols(["h2"])
        host, _, port = process.address.partition(":")
        with (
            socket.create_connection((host, int(port)), timeout=20) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("system")
    authority, issuer = Authority.make(directory), Issuer()
    (directory / "taxonomy.yaml").write_text(TAXONOMY)
    (directory / "jwks.json").write_text(jwks([issuer]))
    ports = dict(zip(("detection", "gateway"), free_ports(2), strict=True))

    def settings(name: str) -> dict[str, object]:
        asked = {"TLS_CLIENT_AUTHENTICATION": "required", "HEALTH_PORT": ports[name]}
        return environment(authority.issue(name)) | asked | AGE

    with ExitStack() as stack:
        detection = stack.enter_context(
            ServiceProcess(
                "detection",
                directory,
                ENGINE="onnxruntime",
                MODEL_REPOSITORY=write_model(directory / "repository", "detection").parent,
                **settings("detection"),
            )
        )
        gateway = stack.enter_context(
            ServiceProcess(
                "gateway",
                directory,
                DETECTION_URL=f"localhost:{detection.address.partition(':')[2]}",
                TAXONOMY=directory / "taxonomy.yaml",
                AUTHENTICATION="required",
                AUTHENTICATION_TOKENS_FILE=write_tokens(directory / "tokens.yaml"),
                AUTHENTICATION_JWKS=directory / "jwks.json",
                AUTHENTICATION_ISSUER=ISSUER,
                AUTHENTICATION_AUDIENCE=AUDIENCE,
                **settings("gateway"),
            )
        )
        for port in ports.values():
            eventually(lambda port=port: ask(f"127.0.0.1:{port}") == "SERVING")
        yield System(authority, authority.issue("caller"), issuer, directory / "tokens.yaml", detection, gateway, ports)


def perceive(client: PerceptionClient) -> str:
    """Perceives one picture; what became of it at the detection service."""
    return client.perceive(picture(), timeout=30).task_status["detection"].state


def test_a_picture_is_perceived_over_certificates_all_the_way(system: System) -> None:
    with system.client() as client:
        assert perceive(client) == "OK"


def strangers(system: System, directory: Path) -> Iterator[tuple[str, TLS | None]]:
    authority = system.authority
    yield "plain text", None
    yield "no certificate", TLS(authority.file)
    other = Authority.make(directory, "elsewhere").issue("stranger")
    yield "another authority's certificate", TLS(authority.file, other.certificate, other.key)
    yield "an expired certificate", authority.issue("expired", -timedelta(minutes=1))


def test_without_a_certificate_of_the_authority_nobody_is_heard(system: System, tmp_path: Path) -> None:
    """At the gateway, whatever the token, and at the services behind it."""
    request = detection_pb2.DetectRequest(image=image_to_message(picture()))
    for kind, tls in strangers(system, tmp_path):
        with PerceptionClient(system.gateway.address, tls=tls, token="camera") as client:
            assert code_of(lambda client=client: client.perceive(picture(), timeout=20)) == "UNAVAILABLE", kind
        with open_channel(system.detection.address, (), tls) as channel:
            stub = detection_pb2_grpc.DetectionServiceStub(channel)
            assert code_of(lambda stub=stub: stub.Detect(request, timeout=20)) == "UNAVAILABLE", kind


def code_of(call: Callable[[], object]) -> str:
    """How a call ends."""
    try:
        call()
    except PerceptionError as error:
        return error.code.name
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def test_a_caller_believes_no_other_authority(system: System, tmp_path: Path) -> None:
    tls = Authority.make(tmp_path, "elsewhere").issue("caller")
    with system.client(tls=tls) as client, pytest.raises(Unavailable):
        client.perceive(picture(), timeout=20)


def test_probes_need_no_certificate_and_learn_of_health_alone(system: System) -> None:
    for port in system.health_ports.values():
        assert ask(f"127.0.0.1:{port}") == "SERVING"
    with grpc.insecure_channel(f"127.0.0.1:{system.health_ports['detection']}") as channel:
        stub = detection_pb2_grpc.DetectionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Detect(detection_pb2.DetectRequest(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_tokens_that_are_not_accepted(system: System) -> None:
    """None, one that nobody made, expired ones, and what the issuer did not sign."""
    issuer = system.issuer
    refused = {
        None: "NO_TOKEN",
        "perception_made_up": "WRONG_TOKEN",
        "past": "WRONG_TOKEN",
        issuer.token(exp=int(time.time()) - 60): "WRONG_TOKEN",
        Issuer().token(): "WRONG_TOKEN",
        issuer.token(key="", algorithm="none"): "WRONG_TOKEN",
        issuer.hmac_token(): "WRONG_TOKEN",
        issuer.token(aud="another system"): "WRONG_TOKEN",
    }
    for token, reason in refused.items():
        with system.client(token) as client:
            with pytest.raises(Unauthenticated) as caught:
                client.perceive(picture(), timeout=20)
            assert caught.value.reason == reason
            with pytest.raises(Unauthenticated):
                list(client.stream([picture()], camera="gate"))
            with pytest.raises(Unauthenticated):
                client.describe(timeout=20)
    with system.client(issuer.token()) as client:
        assert perceive(client) == "OK"


def test_a_caller_learns_nothing_by_how_long_a_refusal_takes(system: System, capsys: Any) -> None:
    """Of tokens that are wrong in their last letter, and in their first."""
    token = new_token()
    write_tokens(system.tokens, [*ENTRIES, {"name": "long", "scopes": ["describe"], "sha256": digest(token)}])
    with ExitStack() as stack:
        right, near, far = (
            stack.enter_context(system.client(shown)) for shown in (token, f"{token[:-1]}~", f"~{token[1:]}")
        )
        eventually(lambda: code_of(lambda: right.describe(timeout=20)) == "OK")
        found: list[float] = []
        while len(found) < 3 and not (found and 0.8 < found[-1] < 1.25):
            refusals = (partial(code_of, partial(client.describe, timeout=20)) for client in (near, far))
            found.append(ratio_of_medians(*refusals, 200))
        assert (
            code_of(lambda: near.describe(timeout=20)) == code_of(lambda: far.describe(timeout=20)) == "UNAUTHENTICATED"
        )
    write_tokens(system.tokens)
    with capsys.disabled():
        print(f" [{found[-1]:.3f} times as long for a token that is right but for its last letter]", end="")
    assert 0.8 < found[-1] < 1.25, found


def test_a_token_opens_what_its_scopes_say(system: System) -> None:
    with system.client("operator") as client:
        assert client.describe(timeout=20).taxonomy == "contract"
        with pytest.raises(PermissionDenied, match="token/operator lacks the scope perceive") as caught:
            perceive(client)
        assert caught.value.reason == "SCOPE_MISSING"
    with system.client("camera") as client, pytest.raises(PermissionDenied, match="lacks the scope describe"):
        client.describe(timeout=20)
    with system.client(system.issuer.token(scope="watch")) as client, pytest.raises(PermissionDenied):
        perceive(client)


def test_strangers_learn_nothing_of_what_is_served(system: System) -> None:
    """Reflection is off where callers need tokens, and metrics are on a port of their own."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with open_channel(system.gateway.address, (), system.caller, "operator") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ServerReflectionInfo(iter([request]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    counts = dict(re.findall(r'perception_access_total{result="(\w+)"} (\S+)', system.gateway.metrics()))
    assert {"accepted", "no_token", "wrong_token", "no_scope"} <= counts.keys()
    assert "camera" not in system.gateway.metrics().partition("perception_access_total")[2].partition("# HELP")[0]


NEWCOMER = {"name": "newcomer", "scopes": ["perceive"]}


def is_heard(client: PerceptionClient) -> bool:
    try:
        return perceive(client) == "OK"
    except Unauthenticated:
        return False


def test_a_token_that_is_withdrawn_opens_nothing_any_more(system: System) -> None:
    with system.client("newcomer") as client:
        with pytest.raises(Unauthenticated):
            perceive(client)
        write_tokens(system.tokens, [*ENTRIES, NEWCOMER])
        eventually(lambda: is_heard(client))
        system.tokens.write_text("- {name: broken")
        eventually(lambda: is_heard(client) and "cannot be used" in system.gateway.output())
        write_tokens(system.tokens)
        eventually(lambda: not is_heard(client))


def test_a_stream_ends_with_its_token_and_answers_what_it_has_read(system: System) -> None:
    """Within seconds, where it would go on for half an hour; another one's stream beside it goes on."""
    write_tokens(system.tokens, [*ENTRIES, NEWCOMER])
    with system.client("newcomer") as client:
        eventually(lambda: is_heard(client))
    over = threading.Event()

    def frames() -> Iterator[Any]:
        while not over.wait(0.05):
            yield picture()

    def perceive_all(token: str, answered: list[int]) -> str:
        with system.client(token) as client:
            try:
                for answer in client.stream(frames(), camera=token):
                    answered.append(answer.sequence)
            except Unauthenticated as error:
                return str(error)
        return "closed"

    seen: dict[str, list[int]] = {"newcomer": [], "camera": []}
    with ThreadPoolExecutor() as pool:
        ends = {token: pool.submit(perceive_all, token, answered) for token, answered in seen.items()}
        try:
            eventually(lambda: ends["newcomer"].done() or all(len(answered) >= 5 for answered in seen.values()))
            write_tokens(system.tokens)
            assert ends["newcomer"].result(60) == "the token is not known"
            before = len(seen["camera"])
            eventually(lambda: len(seen["camera"]) >= before + 10)
        finally:
            over.set()
        assert ends["camera"].result(60) == "closed"
    assert seen["newcomer"] == list(range(seen["newcomer"][0], seen["newcomer"][-1] + 1))
    assert 'perception_access_total{result="withdrawn"} 1.0' in system.gateway.metrics()


def test_certificates_are_replaced_under_load_and_no_request_fails(system: System) -> None:
    """Those of the caller, the gateway and the service behind it, three times."""
    tls = system.authority.issue("loaded")
    shown = {system.serial(system.gateway)}
    with Load(system.gateway.address, callers=2, tls=tls, token="camera") as load:
        for _ in range(3):
            before, answered = system.serial(system.detection), load.answered
            system.certificates("loaded", "gateway", "detection")
            eventually(lambda before=before: system.serial(system.detection) != before)
            eventually(lambda: system.serial(system.gateway) not in shown)
            shown.add(system.serial(system.gateway))
            eventually(lambda answered=answered: load.answered >= answered + 20)
    assert load.failures == []
    assert len(shown) == 4
    (expiry,) = re.findall(r"^perception_certificate_expiry_timestamp_seconds (\S+)", system.gateway.metrics(), re.M)
    assert time.time() < float(expiry) < time.time() + 3700


def test_a_greedy_client_is_held_to_its_quota_and_slows_nobody(system: System, capsys: Any) -> None:
    """A modest one's times with the greedy one at work and without, in turns of one run."""
    done = threading.Event()
    at_work = threading.Event()
    ends: Counter[str] = Counter()
    delays: list[float] = []
    settings: set[str] = set()

    def be_greedy() -> None:
        with system.client("greedy") as client:
            while not done.is_set():
                if not at_work.wait(0.1):
                    continue
                try:
                    perceive(client)
                    ends["accepted"] += 1
                except ResourceExhausted as error:
                    ends[error.reason] += 1
                    delays.append(error.retry_after_seconds or 0.0)
                    settings.add(error.setting)
                    time.sleep(0.01)

    took: dict[bool, list[float]] = {False: [], True: []}
    began = time.monotonic()
    greedy = threading.Thread(target=be_greedy)
    greedy.start()
    try:
        with system.client("camera") as modest:
            for turn in range(10):
                is_greedy = turn % 2 == 1
                at_work.set() if is_greedy else at_work.clear()
                for _ in range(15):
                    started = time.monotonic()
                    assert perceive(modest) == "OK"
                    took[is_greedy].append(time.monotonic() - started)
    finally:
        at_work.set()
        eventually(lambda: ends["QUOTA_EXCEEDED"] > 20)
        done.set()
        greedy.join()
    seconds = time.monotonic() - began
    assert ends.keys() == {"accepted", "QUOTA_EXCEEDED"}
    assert settings == {"authentication_rate"}
    assert 0 < ends["accepted"] <= 4 + 2 * seconds + 1
    assert all(0 < delay <= 0.5 for delay in delays)
    ratio = statistics.median(took[True]) / statistics.median(took[False])
    with capsys.disabled():
        print(f" [{ends['QUOTA_EXCEEDED']} calls refused; the other client's time x {ratio:.2f}]", end="")
    assert ratio < 2


def variables(tls: TLS) -> dict[str, str]:
    return {key: str(value) for key, value in environment(tls).items()}


def test_a_camera_shows_its_certificate_and_its_token(system: System, tmp_path: Path) -> None:
    """Its token is exchanged while it runs."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "1.jpg").write_bytes(jpeg())
    token = tmp_path / "token"
    token.write_text("nobody\n")
    with AgentProcess(
        tmp_path,
        system.gateway.address,
        [{"name": "gate", "source": str(pictures), "loop": True}],
        system.caller,
        TOKEN_FILE=str(token),
        **variables(system.authority.issue("agent")),
    ) as agent:
        eventually(lambda: "the token is not known" in agent.log())
        token.write_text("camera\n")
        agent.until(lambda camera: camera.perceived > 0)


def test_load_is_driven_with_certificate_and_token(system: System, tmp_path: Path) -> None:
    """By calls and by streams; who drives it without is told why not."""
    (tmp_path / "frame.jpg").write_bytes(jpeg())
    (tmp_path / "token").write_text("tester\n")
    write_tokens(system.tokens, [*ENTRIES, {"name": "tester", "scopes": ["perceive", "describe"]}])
    caller = variables(system.authority.issue("tester")) | {"TOKEN_FILE": str(tmp_path / "token")}

    def drive(environment: dict[str, str], *load: str) -> tuple[int, str]:
        options = ["--address", system.gateway.address, "--source", str(tmp_path / "frame.jpg")]
        options += ["--seconds", "1", "--warmup", "0.5", "--timeout", "20", "--output", str(tmp_path / "result.json")]
        nobody = dict.fromkeys(VARIABLES, "")
        done = CliRunner().invoke(loadtest, [*load, *options], env=nobody | environment)
        return done.exit_code, done.output

    eventually(lambda: drive(caller, "closed", "--clients", "1")[0] == 0)  # the gateway has read the new token
    for load in (["closed", "--clients", "2"], ["streams", "--cameras", "2", "--rate", "5"]):
        status, said = drive(caller, *load)
        assert status == 0, said
        _, result = read_result(tmp_path / "result.json")
        assert isinstance(result, LoadResult)
        assert result.scenes == result.due > 0, result.errors
    for without, words in (("TLS_CA_FILE", "expected TLS_CA_FILE"), ("TOKEN_FILE", "UNAUTHENTICATED")):
        status, said = drive({name: value for name, value in caller.items() if name != without}, "closed")
        assert (status, words in said) == (1, True), said
    write_tokens(system.tokens)


class OnePicture:
    """A data set."""

    name = "one"
    categories = (Category("green", True, (0, 255, 0)),)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        image = picture()
        height, width = image.shape[:2]
        whole = Segment(1, "green", True, (0, 0, width, height), float(height * width))
        return Sample(image, "one.jpg", 1, np.ones((height, width), np.int32), (whole,))


def test_the_system_and_its_models_are_measured_with_certificate_and_token(system: System, tmp_path: Path) -> None:
    """Tasks are shown the certificate, the gateway the token too."""
    (tmp_path / "token").write_text(system.issuer.token(scope="perceive describe"))
    plan = Plan(name="one", steps=(Step(subject="system", dataset="one"),))

    def measure(caller: Caller) -> list[Evaluation]:
        addresses = {"system": [system.gateway.address]}
        return run_plan(plan, addresses, tmp_path, lambda *_: None, caller=caller, datasets=lambda _: OnePicture())

    (measured,) = measure(Caller(system.caller, tmp_path / "token"))
    assert measured.frames == 1
    for caller, words in ((Caller(system.caller), "UNAUTHENTICATED"), (NOBODY, "UNAVAILABLE")):
        with pytest.raises(EvaluationError, match=words):
            measure(caller)
    subject = DetectionSubject(system.detection.address, OnePicture(), Caller(system.caller))
    assert [found.label for found in subject.ask(OnePicture()[0])] == ["green"]
    with pytest.raises(EvaluationError, match="UNAVAILABLE"):
        DetectionSubject(system.detection.address, OnePicture(), NOBODY)


async def test_people_sign_in_at_the_page(system: System, tmp_path: Path) -> None:
    """With a token that may watch; and have pictures perceived where it may `perceive`. A withdrawn one ends it all."""
    people = [
        {"name": "watcher", "scopes": ["watch"]},
        {"name": "tester", "scopes": ["watch", "perceive"]},
        {"name": "camera", "scopes": ["perceive"]},
    ]
    tokens = write_tokens(tmp_path / "people.yaml", people)
    (tmp_path / "token").write_text("camera")
    settings: dict[str, object] = {
        "AUTHENTICATION": "required",
        "AUTHENTICATION_TOKENS_FILE": tokens,
        "TOKEN_FILE": tmp_path / "token",
        "GATEWAY_URL": system.gateway.address,
        "CAMERA_AGENTS": "",
        **environment(system.authority.issue("viewer")),
    }
    context = ssl.create_default_context(cafile=str(system.authority.file))
    jar = aiohttp.CookieJar(unsafe=True)  # of an address that is a number
    with ServiceProcess("viewer", tmp_path, **settings) as viewer:
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(f"https://{viewer.address}", connector=connector, cookie_jar=jar) as browser:

            async def status(method: str, path: str, **more: Any) -> int:
                async with browser.request(method, path, allow_redirects=False, **more) as answer:
                    return answer.status

            async def sign_in(token: str) -> int:
                return await status("POST", "/login", data={"token": token})

            assert await status("GET", "/healthz") == 200
            async with browser.get("/") as answer:
                assert (answer.status, answer.url.path) == (200, "/login")
                assert 'type="password"' in await answer.text()
            assert await status("GET", "/page/main.js") == 401
            assert await status("POST", "/perceive", data=jpeg()) == 401
            async with browser.ws_connect("/cameras") as socket_:
                assert (await socket_.receive(timeout=20)).data == 4401
            assert [await sign_in(token) for token in ("nobody", "camera", "")] == [401, 403, 401]
            assert await status("POST", "/login", data={"token": "x" * 20_000}) == 413
            elsewhere = {"Origin": "https://elsewhere.test"}
            assert await status("POST", "/login", data={"token": "watcher"}, headers=elsewhere) == 403

            async with browser.post("/login", data={"token": "watcher"}, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/")
                cookie = answer.headers["Set-Cookie"].lower()
            for word in ("httponly", "samesite=strict", "secure"):
                assert word in cookie
            assert await status("GET", "/") == 200
            assert await status("POST", "/perceive", data=jpeg()) == 403
            assert await sign_in("tester") == 303
            assert await status("POST", "/perceive", data=jpeg()) == 200
            async with browser.ws_connect("/cameras") as socket_:
                assert (await socket_.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT
                write_tokens(tokens, people[:1])
                while (message := await socket_.receive(timeout=60)).type is aiohttp.WSMsgType.TEXT:
                    await socket_.send_str("drawn")
                assert message.data == 4401
            assert await status("GET", "/") == 303
            assert await sign_in("watcher") == 303
            assert await status("POST", "/logout") == 303
            assert await status("GET", "/page/main.js") == 401


def test_triton_is_called_by_certificates_both_ways(
    triton_environment: Path, tmp_path: Path, contract_repository: Path
) -> None:
    """A task service with a certificate is answered; one that knows the authority and has none itself is not."""
    authority = Authority.make(tmp_path)
    server = authority.issue("triton")
    triton = TritonServer(
        contract_repository,
        ["detection"],
        tmp_path / "triton",
        triton_environment,
        arguments=[
            "--grpc-use-ssl=1",
            "--grpc-use-ssl-mutual=1",
            f"--grpc-server-cert={server.certificate}",
            f"--grpc-server-key={server.key}",
            f"--grpc-root-cert={server.authorities}",
        ],
        tls=authority.issue("caller"),
    )
    settings = {"ENGINE": "triton", "TRITON_URL": triton.url}
    try:
        triton.start()
        mine = variables(authority.issue("detection"))
        with (
            ServiceProcess("detection", tmp_path, **settings, TLS_CA_FILE=authority.file) as stranger,
            ServiceProcess("detection", tmp_path, **settings, HEALTH_PORT=free_ports(1)[0], **mine) as detection,
        ):
            with open_channel(detection.address, (), authority.issue("caller")) as channel:
                stub = detection_pb2_grpc.DetectionServiceStub(channel)
                request = detection_pb2.DetectRequest(image=image_to_message(picture()))
                answer = stub.Detect(request, timeout=60)
                assert [found.label for found in answer.detections] == ["green"]
            stranger.logged("not ready")
            with pytest.raises(grpc.RpcError) as caught:
                detection_pb2_grpc.DetectionServiceStub(stranger.channel).Detect(request, timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        triton.kill()
        remove_shared_memory(triton.command.shared_memory_prefix)


def jpeg() -> bytes:
    return simplejpeg.encode_jpeg(picture(), 95, "RGB")
