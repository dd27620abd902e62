"""TLS and tokens: certificates, tokens and keys come from Secrets, and everybody gets those that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.camera.settings import AgentEnvironment
from services.gateway.settings import GatewaySettings
from services.runtime.settings import CallerSettings, ServiceSettings, TaskSettings
from services.viewer.settings import ViewerSettings
from tests.deploy import chart
from tests.deploy.chart import AGENT, SWITCHES, Object, environment, needs_helm, pod_spec
from tests.support.certificates import Authority

pytestmark = needs_helm

OURS = {"gateway", "detection", "instance-segmentation", "semantic-segmentation", "classification", "camera", "viewer"}
TLS = SWITCHES["tls"]
TOKENS = SWITCHES["tokens"]
CERTIFICATE = {
    "TLS_CERTIFICATE_FILE": "/etc/perception-tls/tls.crt",
    "TLS_KEY_FILE": "/etc/perception-tls/tls.key",
    "TLS_CA_FILE": "/etc/perception-tls/ca.crt",
}


def _pods(values: str) -> dict[str, Object]:
    """The Pod of each component, that of `helm test` among them."""
    found = {_component(one): pod_spec(one) for one in chart.objects("Deployment", values=values)}
    (test,) = chart.objects("Pod", values=values)
    return {**found, "test": test["spec"]}


def _component(found: Object) -> str:
    return str(found["metadata"]["labels"]["app.kubernetes.io/component"])


def _settings(pod: Object) -> dict[str, str]:
    (container,) = pod["containers"]
    return {variable["name"]: variable.get("value", "") for variable in container.get("env", ())}


def _mounted(pod: Object) -> Iterator[tuple[str, Object]]:
    """Where each volume is mounted, and what it is."""
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        if volumes[mount["name"]].keys() & {"secret", "projected"}:
            assert mount["readOnly"] is True
            assert "subPath" not in mount  # what is mounted by file never changes
            yield mount["mountPath"], volumes[mount["name"]]


@pytest.mark.parametrize("component", sorted(OURS))
def test_the_services_take_what_they_are_told(component: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: dict[str, type[ServiceSettings] | type[CallerSettings]] = {
        "gateway": GatewaySettings,
        "viewer": ViewerSettings,
        "camera": AgentEnvironment,
    }
    kind = kinds.get(component, TaskSettings)
    tls = Authority.make(tmp_path).issue("tls")
    (tmp_path / "tokens.yaml").write_text("[{name: a, sha256: '%s', scopes: [perceive]}]" % ("0" * 64))
    (tmp_path / "token").write_text("a")
    files = {
        "/etc/perception-tls/tls.crt": tls.certificate,
        "/etc/perception-tls/tls.key": tls.key,
        "/etc/perception-tls/ca.crt": tls.authorities,
        "/etc/perception-authentication/tokens.yaml": tmp_path / "tokens.yaml",
        "/etc/perception-token/token": tmp_path / "token",
    }
    told = _settings(_pods(f"{TLS}\n{SWITCHES['identity provider']}  tokensSecret: callers\n")[component])
    security = {name for name in told if name.startswith(("TLS_", "AUTHENTICATION", "TOKEN_", "HEALTH_"))}
    assert security <= {name.upper() for name in kind.model_fields}
    for name in security:
        monkeypatch.setenv(name, str(files.get(told[name], told[name])))
    settings = kind()
    assert settings.tls_as_server is not None
    assert settings.tls_as_caller is not None
    assert settings.requires_certificates == (component != "viewer")


def test_nothing_of_it_is_there_where_it_is_off() -> None:
    rendered = chart.manifest(values=AGENT)
    for word in (
        "name: TLS_",
        "name: AUTHENTICATION",
        "name: TOKEN_FILE",
        "name: HEALTH_PORT",
        "-use-ssl",
        "/etc/perception-t",
    ):
        assert word not in rendered


def test_everybody_has_the_certificate() -> None:
    for component, pod in _pods(TLS).items():
        secret = {"secretName": "perception-certificate", "defaultMode": 0o440}
        assert ("/etc/perception-tls", {"name": "tls", "secret": secret}) in list(_mounted(pod))
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]  # who may read it
        if component != "triton":
            assert CERTIFICATE.items() <= _settings(pod).items()


def test_triton_asks_for_certificates() -> None:
    (container,) = _pods(TLS)["triton"]["containers"]
    assert {
        "--grpc-use-ssl=1",
        "--grpc-use-ssl-mutual=1",
        "--grpc-server-cert=/etc/perception-tls/tls.crt",
        "--grpc-server-key=/etc/perception-tls/tls.key",
        "--grpc-root-cert=/etc/perception-tls/ca.crt",
    } <= set(container["args"])
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}


@pytest.mark.parametrize(
    ("switch", "gateway", "others"),
    [("tls", "required", "required"), ("cert-manager", "off", "off"), ("tls behind an ingress", "off", "required")],
)
def test_who_asks_callers_for_a_certificate(switch: str, gateway: str, others: str) -> None:
    asked = {
        component: settings["TLS_CLIENT_AUTHENTICATION"]
        for component, pod in _pods(SWITCHES[switch]).items()
        if "TLS_CLIENT_AUTHENTICATION" in (settings := _settings(pod))
    }
    assert asked.pop("gateway") == gateway
    assert asked.keys() >= OURS - {"gateway", "viewer", "camera"}
    assert set(asked.values()) == {others}
    (triton,) = _pods(SWITCHES[switch])["triton"]["containers"]
    assert f"--grpc-use-ssl-mutual={int(others == 'required')}" in triton["args"]


def test_the_kubelet_asks_for_health_without_tls() -> None:
    for component, pod in _pods(TLS).items():
        (container,) = pod["containers"]
        if component not in OURS - {"viewer"}:
            continue
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert _settings(pod)["HEALTH_PORT"] == str(ports["health"])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["grpc"]["port"] == ports["health"]
        # Nobody else does: neither Service nor policy leads there.
        policy = next(one for one in chart.objects("NetworkPolicy", values=TLS) if _of(one, component))
        service = next(one for one in chart.objects("Service", values=TLS) if _of(one, component))
        reached = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
        assert ports["health"] not in [*reached, *(port["port"] for port in service["spec"]["ports"])]


def test_the_page_is_served_by_https() -> None:
    for values, scheme in ((AGENT, "HTTP"), (TLS, "HTTPS")):
        pods = _pods(values)
        (viewer,) = pods["viewer"]["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert viewer[probe]["httpGet"]["scheme"] == scheme
        assert _settings(pods["test"])["VIEWER"] == f"{scheme.lower()}://perception-viewer:8080"
        # People have no certificate to show, and nor has the kubelet.
        assert "TLS_CLIENT_AUTHENTICATION" not in _settings(pods["viewer"])


def _of(found: Object, component: str) -> bool:
    return found["metadata"]["labels"].get("app.kubernetes.io/component") == component


@pytest.mark.parametrize("switch", ["tls", "tls behind a gateway", "cert-manager"])
def test_no_service_says_that_it_speaks_plain_http2(switch: str) -> None:
    assert "kubernetes.io/h2c" in chart.manifest()
    assert "kubernetes.io/h2c" not in chart.manifest(values=SWITCHES[switch])


def test_the_certificate_is_valid_for_every_address() -> None:
    values = f"{SWITCHES['cert-manager']}\n{AGENT}"
    (certificate,) = chart.objects("Certificate", values=values)
    names = certificate["spec"]["dnsNames"]
    assert len(names) == len(set(names))
    assert all(len(name) <= 253 for name in names)
    addresses = set()
    for pod in _pods(values).values():
        for name, value in _settings(pod).items():
            if name.endswith("_URL") or name in ("GATEWAY", "CAMERA_AGENTS"):
                addresses |= {address.removeprefix("dns:///").partition(":")[0] for address in value.split(",")}
    assert len(addresses) >= 7
    assert addresses <= set(names)
    for service in chart.objects("Service", values=values):
        assert f"*.{service['metadata']['name']}.vision.svc.cluster.local" in names
    mounted = [volume["secret"]["secretName"] for _, volume in _mounted(_pods(values)["gateway"]) if "secret" in volume]
    assert mounted == [certificate["spec"]["secretName"]]
    assert {"server auth", "client auth"} <= set(certificate["spec"]["usages"])


def test_an_ingress_speaks_tls_to_the_gateway() -> None:
    (ingress,) = chart.objects("Ingress", values=SWITCHES["tls behind an ingress"])
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/backend-protocol"] == "GRPCS"
    assert "nginx.ingress.kubernetes.io/proxy-read-timeout" in ingress["metadata"]["annotations"]


def test_a_gateway_checks_the_certificate_of_whom_it_sends_to() -> None:
    values = SWITCHES["tls behind a gateway"]
    (policy,) = chart.objects("BackendTLSPolicy", values=values)
    (route,) = chart.objects("GRPCRoute", values=values)
    (target,) = policy["spec"]["targetRefs"]
    assert target["name"] == route["spec"]["rules"][0]["backendRefs"][0]["name"]
    (certificate,) = chart.objects("Certificate", values=f"{SWITCHES['cert-manager']}\n")
    assert policy["spec"]["validation"]["hostname"] in certificate["spec"]["dnsNames"]


def test_callers_of_the_gateway_show_their_tokens() -> None:
    shown = {}
    for component, pod in _pods(TOKENS).items():
        for path, volume in _mounted(pod):
            if volume["name"] == "token":
                assert _settings(pod)["TOKEN_FILE"] == f"{path}/{volume['secret']['items'][0]['path']}"
                shown[component] = volume["secret"]["secretName"]
    assert shown == {"camera": "token", "viewer": "viewer-token", "test": "token"}


def test_an_agent_may_have_a_token_of_its_own() -> None:
    own = "cameras: {agents: {hall: {existingSecret: hall, tokenSecret: hall-token}}}"
    deployment = chart.named("Deployment", "perception-camera-hall", values=f"{SWITCHES['identity provider']}\n{own}")
    assert {"hall-token"} == {volume["secret"]["secretName"] for _, volume in _mounted(pod_spec(deployment))} - {"hall"}


@pytest.mark.parametrize(
    ("switch", "files", "keys"),
    [
        ("tokens", {"tokens.yaml": "callers"}, None),
        ("identity provider", {}, "https://login.example.org/keys"),
        (
            "keys at hand",
            {"tokens.yaml": "callers", "jwks.json": "provider-keys"},
            "/etc/perception-authentication/jwks.json",
        ),
    ],
)
def test_gateway_and_viewer_know_whom_to_let_in(switch: str, files: dict[str, str], keys: str | None) -> None:
    pods = _pods(SWITCHES[switch])
    for component in ("gateway", "viewer"):
        settings = _settings(pods[component])
        assert settings["AUTHENTICATION"] == "required"
        assert settings.get("AUTHENTICATION_JWKS") == keys
        assert ("AUTHENTICATION_ISSUER" in settings) == ("AUTHENTICATION_AUDIENCE" in settings) == (keys is not None)
        found = {}
        for path, volume in _mounted(pods[component]):
            if path == "/etc/perception-authentication":
                for source in volume["projected"]["sources"]:
                    ((_, reference),) = source.items()
                    found[reference["items"][0]["path"]] = reference["name"]
        assert found == files
        assert settings.get("AUTHENTICATION_TOKENS_FILE") == (
            "/etc/perception-authentication/tokens.yaml" if "tokens.yaml" in files else None
        )
    for component in pods.keys() - {"gateway", "viewer"}:
        assert "AUTHENTICATION" not in _settings(pods[component])


def test_the_identity_provider_is_reached_by_those_who_ask_it() -> None:
    reached = {}
    for policy in chart.objects("NetworkPolicy", values=SWITCHES["identity provider"]):
        for rule in policy["spec"].get("egress", ()):
            for peer in rule["to"]:
                if "ipBlock" in peer:
                    reached[_component(policy)] = [port["port"] for port in rule["ports"]]
    assert reached == {"gateway": [443], "viewer": [443]}


def test_no_secret_is_a_value() -> None:
    for switch in ("tls", "tokens", "identity provider", "keys at hand", "cert-manager"):
        secrets = {one["metadata"]["name"] for one in chart.objects("Secret", values=SWITCHES[switch])}
        assert secrets <= {"perception-camera-yard"}  # its cameras' addresses


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("tls: {enabled: true}", ("tls.secretName", "tls.crt, tls.key and ca.crt", "found neither")),
        ("tls: {secretName: a}", ("expected tls.enabled: true, found false",)),
        ("tls: {certManager: {issuerRef: {name: a}}}", ("expected tls.enabled: true, found false",)),
        ("tls: {enabled: true, certManager: {issuerRef: {kind: Issuer}}}", ("tls.certManager.issuerRef", "a name")),
        ("tls: {enabled: true, secretName: A_b}", ("/tls/secretName",)),
        (
            f"tls: {{enabled: true, secretName: a}}\n{SWITCHES['ingress']}",
            ("tls.mutualAtGateway: ingress-nginx shows gRPC servers no certificate", "ssl-passthrough"),
        ),
        (f"tls: {{enabled: true, secretName: a}}\n{SWITCHES['gateway api']}", ("gatewayApi.caConfigMap",)),
        ("authentication: {enabled: true}", ("authentication: nobody could call", "tokensSecret, jwks.url")),
        ("authentication: {tokensSecret: a}", ("expected authentication.enabled: true, found false",)),
        ("authentication: {enabled: true, tokensSecret: a}", ("authentication.callerTokenSecret", "helm test")),
        (
            "authentication: {enabled: true, callerTokenSecret: a, jwks: {url: 'https://a', configMap: b}}",
            ("authentication.jwks: expected url or configMap, found both",),
        ),
        (
            "authentication: {enabled: true, callerTokenSecret: a, jwks: {url: 'https://a', issuer: b}}",
            ("authentication.jwks.audience",),
        ),
        (
            "authentication: {enabled: true, callerTokenSecret: a, jwks: {configMap: a, audience: b}}",
            ("authentication.jwks.issuer",),
        ),
        ("authentication: {jwks: {url: 'http://a'}}", ("/authentication/jwks/url",)),
        (
            SWITCHES["identity provider"] + "networkPolicy: {identityProvider: []}",
            ("networkPolicy.identityProvider: no rule lets the gateway reach",),
        ),
        ("authentication: {token: a}", ("/authentication", "token")),
    ],
)
def test_what_is_half_configured_is_refused(values: str, words: tuple[str, ...]) -> None:
    ran = chart.template(values=values)
    assert ran.returncode != 0
    for word in words:
        assert word in ran.stderr, ran.stderr


def test_an_ingress_may_let_tls_through_to_the_gateway() -> None:
    passes = '{nginx.ingress.kubernetes.io/ssl-passthrough: "true"}'
    ingress = f"ingress: {{enabled: true, host: perception.example.org, tlsSecretName: a, annotations: {passes}}}"
    values = f"{SWITCHES['cert-manager'].replace('mutual: false, ', '')}\n{ingress}\n{chart.CONTROLLER}"
    gateway = chart.named("Deployment", "perception-gateway", values=values)
    assert environment(gateway)["TLS_CLIENT_AUTHENTICATION"] == "required"
    (certificate,) = chart.objects("Certificate", values=values)
    assert "perception.example.org" in certificate["spec"]["dnsNames"]
