"""What matters in the rendered objects: that they agree with each other, with the services' code, and are safe."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import yaml

from services.camera.settings import AgentSettings
from services.gateway.settings import GatewaySettings
from services.runtime.server import LIVENESS
from services.runtime.settings import ServiceSettings, TaskSettings
from services.viewer.settings import ViewerSettings
from tests.deploy import chart
from tests.deploy.chart import AGENT, PRESETS, SWITCHES, Object, environment, needs_helm, pod_spec, selects

pytestmark = needs_helm

TASKS = ("detection", "instance_segmentation", "semantic_segmentation", "classification")
RENDERINGS = [
    *((preset, AGENT) for preset in PRESETS),
    *(("default", SWITCHES[name]) for name in ("mixed engines", "bucket", "claim", "pods", "keda")),
]
IDS = [*PRESETS, "mixed engines", "bucket", "claim", "pods", "keda"]

each_rendering = pytest.mark.parametrize(("preset", "values"), RENDERINGS, ids=IDS)


def _containers(pod: Object) -> Iterator[Object]:
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def _labels(deployment: Object) -> dict[str, str]:
    return dict(deployment["spec"]["template"]["metadata"]["labels"])


def _ports(container: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def _component(found: Object) -> str:
    return str(found["metadata"]["labels"]["app.kubernetes.io/component"])


@each_rendering
def test_selectors_choose_their_own_pods_and_no_others(preset: str, values: str) -> None:
    deployments = chart.objects("Deployment", preset, values)
    assert deployments
    for deployment in deployments:
        name = deployment["metadata"]["name"]
        selectors = {
            "Deployment": deployment["spec"]["selector"]["matchLabels"],
            "Service": chart.named("Service", name, preset, values)["spec"]["selector"],
            "PodDisruptionBudget": chart.named("PodDisruptionBudget", name, preset, values)["spec"]["selector"][
                "matchLabels"
            ],
            "NetworkPolicy": chart.named("NetworkPolicy", name, preset, values)["spec"]["podSelector"]["matchLabels"],
        }
        for kind, selector in selectors.items():
            chosen = [other["metadata"]["name"] for other in deployments if selects(selector, _labels(other))]
            assert chosen == [name], kind


@each_rendering
def test_ports_agree(preset: str, values: str) -> None:
    for deployment in chart.objects("Deployment", preset, values):
        name = deployment["metadata"]["name"]
        (container,) = pod_spec(deployment)["containers"]
        ports = _ports(container)
        service = chart.named("Service", name, preset, values)["spec"]
        assert {port["name"]: port["port"] for port in service["ports"]} == ports
        assert all(port["targetPort"] == port["name"] for port in service["ports"])
        policy = chart.named("NetworkPolicy", name, preset, values)["spec"]
        allowed = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
        assert allowed == [ports.get("grpc", ports.get("http")), ports["metrics"]]
        settings = environment(deployment)
        if "METRICS_PORT" in settings:
            assert settings["METRICS_PORT"] == str(ports["metrics"])
            assert settings["PORT"] == str(ports.get("grpc", ports.get("http")))
        if _component(deployment) == "triton":
            arguments = {f"--{key}-port={ports[key]}" for key in ("grpc", "http", "metrics")}
            assert arguments <= set(container["args"])


def test_the_ports_of_a_camera_agent_are_those_of_its_file() -> None:
    secret = chart.named("Secret", "perception-camera-yard", values=AGENT)
    settings = AgentSettings.model_validate(yaml.safe_load(secret["stringData"]["cameras.yaml"]))
    (container,) = pod_spec(chart.named("Deployment", "perception-camera-yard", values=AGENT))["containers"]
    assert _ports(container) == {"grpc": settings.port, "metrics": settings.metrics_port}
    assert [camera.name for camera in settings.cameras] == ["gate", "ramp"]
    assert settings.gateway == "dns:///perception-gateway.vision.svc.cluster.local:50050"


def test_an_agents_own_file_may_leave_its_ports_out() -> None:
    # values.yaml says that such a file leaves them at their defaults.
    (container,) = pod_spec(chart.named("Deployment", "perception-camera-yard", values=AGENT))["containers"]
    defaults = AgentSettings.model_validate({"cameras": [{"name": "a", "source": "a.mp4"}]})
    assert _ports(container) == {"grpc": defaults.port, "metrics": defaults.metrics_port}


def test_the_monitor_finds_the_metrics_of_every_pod() -> None:
    (monitor,) = chart.objects("PodMonitor", "gpu", AGENT)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for deployment in chart.objects("Deployment", "gpu", AGENT):
        assert selects(monitor["spec"]["selector"]["matchLabels"], _labels(deployment))
        assert monitor["spec"]["jobLabel"] in _labels(deployment)
        (container,) = pod_spec(deployment)["containers"]
        assert endpoint["port"] in _ports(container)


@each_rendering
def test_pods_fulfil_restricted_pod_security(preset: str, values: str) -> None:
    pods = [pod_spec(one) for one in chart.objects("Deployment", preset, values)]
    pods += [one["spec"] for one in chart.objects("Pod", preset, values)]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        allowed = {"name", "configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}
        assert all(volume.keys() <= allowed for volume in pod["volumes"])
        for container in _containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@each_rendering
def test_every_container_says_what_it_needs(preset: str, values: str) -> None:
    for deployment in chart.objects("Deployment", preset, values):
        for container in _containers(pod_spec(deployment)):
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


@each_rendering
def test_every_deployment_has_probes(preset: str, values: str) -> None:
    for deployment in chart.objects("Deployment", preset, values):
        (container,) = pod_spec(deployment)["containers"]
        ports = _ports(container)
        readiness = container["readinessProbe"]
        if _component(deployment) == "viewer":
            assert readiness["httpGet"] == {"path": "/healthz", "port": "http", "scheme": "HTTP"}
        else:
            assert readiness["grpc"] == {"port": ports["grpc"]}
        for probe in ("startupProbe", "livenessProbe"):
            asked = container[probe].get("httpGet")
            assert (asked["port"] in ports) if asked else (container[probe]["grpc"]["port"] in ports.values())


@each_rendering
def test_nobody_is_restarted_for_a_model_that_is_away(preset: str, values: str) -> None:
    components = {"gateway", *(task.replace("_", "-") for task in TASKS)}
    deployments = [one for one in chart.objects("Deployment", preset, values) if _component(one) in components]
    assert len(deployments) == len(components)
    for deployment in deployments:
        (container,) = pod_spec(deployment)["containers"]
        for probe in ("startupProbe", "livenessProbe"):
            assert container[probe]["grpc"] == {"port": _ports(container)["grpc"], "service": LIVENESS}


def test_whoever_has_replicas_ends_connections_so_that_callers_find_new_ones() -> None:
    ages = "maxConnectionAgeSeconds: 17\ntriton: {maxConnectionAgeSeconds: 18}"
    for deployment in chart.objects("Deployment", values=f"{AGENT}\n{ages}"):
        match _component(deployment):
            case "triton":
                (container,) = pod_spec(deployment)["containers"]
                assert "--grpc-max-connection-age=18000" in container["args"]
                # It is told to stop when the last connection has ended.
                assert container["lifecycle"]["preStop"]["sleep"]["seconds"] > 1.1 * 18
            case "camera" | "viewer":  # who watches an agent's camera finds no other agent that has it
                assert "MAX_CONNECTION_AGE_SECONDS" not in str(deployment)
            case _:
                settings = GatewaySettings.model_validate(
                    {name.lower(): v for name, v in environment(deployment).items()}
                )
                assert settings.max_connection_age_seconds == 17


def test_triton_gets_the_time_to_load_its_models() -> None:
    deployment = chart.named("Deployment", "perception-triton-default", values="triton: {startupSeconds: 1200}")
    (container,) = pod_spec(deployment)["containers"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1200
    assert deployment["spec"]["progressDeadlineSeconds"] > 1200


@each_rendering
def test_a_pod_has_the_time_to_drain(preset: str, values: str) -> None:
    for deployment in chart.objects("Deployment", preset, values):
        pod = pod_spec(deployment)
        (container,) = pod["containers"]
        if _component(deployment) == "camera":  # leaves no Service; 5 s for its watchers, 3 s for its last answers
            assert "lifecycle" not in container
            assert pod["terminationGracePeriodSeconds"] > 8
            continue
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        if _component(deployment) == "triton":
            (argument,) = (one for one in container["args"] if one.startswith("--exit-timeout-secs="))
            drain = int(argument.partition("=")[2])
        else:
            drain = int(environment(deployment)["DRAIN_SECONDS"])
        assert pod["terminationGracePeriodSeconds"] > sleep + drain


@each_rendering
def test_an_update_takes_no_pod_before_a_new_one_is_ready(preset: str, values: str) -> None:
    for deployment in chart.objects("Deployment", preset, values):
        strategy = deployment["spec"]["strategy"]
        if _component(deployment) == "camera":
            assert strategy == {"type": "Recreate"}
        else:
            assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@each_rendering
def test_every_deployment_has_a_service_account_without_a_token(preset: str, values: str) -> None:
    for deployment in chart.objects("Deployment", preset, values):
        name = pod_spec(deployment)["serviceAccountName"]
        assert name == deployment["metadata"]["name"]
        assert chart.named("ServiceAccount", name, preset, values)["automountServiceAccountToken"] is False


def test_replicas_are_spread_over_zones_and_nodes() -> None:
    for deployment in chart.objects("Deployment"):
        constraints = pod_spec(deployment)["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        for constraint in constraints:
            assert selects(constraint["labelSelector"]["matchLabels"], _labels(deployment))


@each_rendering
def test_grpc_services_are_headless(preset: str, values: str) -> None:
    for service in chart.objects("Service", preset, values):
        assert (service["spec"].get("clusterIP") == "None") == (_component(service) != "viewer")


@each_rendering
def test_addresses_lead_to_services(preset: str, values: str) -> None:
    ports = {
        one["metadata"]["name"]: {port["port"] for port in one["spec"]["ports"]}
        for one in chart.objects("Service", preset, values)
    }
    addresses = []
    for deployment in chart.objects("Deployment", preset, values):
        for name, value in environment(deployment).items():
            if name.endswith("_URL"):
                assert value.startswith("dns:///")  # all Pods behind a headless Service
                addresses.append(value.removeprefix("dns:///").replace(".vision.svc.cluster.local", ""))
            elif name == "CAMERA_AGENTS":
                addresses += [address for address in value.split(",") if address]
    assert addresses
    for address in addresses:
        service, _, port = address.partition(":")
        assert int(port) in ports[service]


def test_the_gateway_knows_the_tasks_that_are_enabled() -> None:
    settings = environment(chart.named("Deployment", "perception-gateway", values=SWITCHES["one task"]))
    assert [name for name in settings if name.endswith("_URL")] == ["DETECTION_URL"]
    assert {f"{task.upper()}_URL" for task in TASKS} <= environment(
        chart.named("Deployment", "perception-gateway")
    ).keys()


def test_the_viewer_knows_the_agents() -> None:
    settings = environment(chart.named("Deployment", "perception-viewer", values=SWITCHES["secret cameras"]))
    assert settings["CAMERA_AGENTS"] == "perception-camera-hall:50060,perception-camera-yard:50060"


@each_rendering
def test_services_take_the_settings_that_they_are_given(
    preset: str, values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, type[ServiceSettings] | type[ViewerSettings]] = {
        "gateway": GatewaySettings,
        "viewer": ViewerSettings,
        **{task.replace("_", "-"): TaskSettings for task in TASKS},
    }
    other = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HOME"}
    for deployment in chart.objects("Deployment", preset, values):
        kind = kinds.get(_component(deployment))
        if kind is None:
            continue
        given = {name: value for name, value in environment(deployment).items() if name not in other}
        assert given.keys() <= {name.upper() for name in kind.model_fields}
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            settings = kind()
        assert settings.host == "0.0.0.0"


def test_large_numbers_stay_whole() -> None:
    settings = environment(chart.named("Deployment", "perception-gateway", values=SWITCHES["settings"]))
    assert settings["MAX_IMAGE_PIXELS"] == "50000000"
    assert settings["TASK_DEADLINE_SHARE"] == "0.75"
    assert settings["TAXONOMY"] == "/etc/perception/taxonomy.yaml"


def test_a_components_own_pod_values_go_before_those_of_all() -> None:
    gateway = pod_spec(chart.named("Deployment", "perception-gateway", values=SWITCHES["pods"]))
    viewer = pod_spec(chart.named("Deployment", "perception-viewer", values=SWITCHES["pods"]))
    assert (gateway["priorityClassName"], viewer["priorityClassName"]) == ("highest", "high")
    assert gateway["tolerations"] == viewer["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
    assert gateway["containers"][0]["image"] == f"perception-services@sha256:{'0' * 64}"


def test_changed_cameras_start_an_agent_anew() -> None:
    def annotations(values: str) -> dict[str, str]:
        deployment = chart.named("Deployment", "perception-camera-yard", values=values)
        return dict(deployment["spec"]["template"]["metadata"]["annotations"])

    assert annotations(AGENT) != annotations(AGENT.replace("ramp", "dock"))


@each_rendering
def test_commands_name_modules_that_are_there(preset: str, values: str) -> None:
    for deployment in chart.objects("Deployment", preset, values):
        (container,) = pod_spec(deployment)["containers"]
        if _component(deployment) == "triton":
            assert container["args"][0] == "tritonserver"
            continue
        python, option, module = container["command"][:3]
        assert (python, option) == ("python", "-m")
        assert find_spec(module if module == "services.cli" else f"{module}.__main__")


def test_an_ingress_leads_to_the_gateway() -> None:
    (ingress,) = chart.objects("Ingress", values=SWITCHES["ingress"])
    (rule,) = ingress["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    service = chart.named("Service", backend["name"], values=SWITCHES["ingress"])
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    gateway = chart.named("Deployment", "perception-gateway", values=SWITCHES["ingress"])
    assert selects(service["spec"]["selector"], _labels(gateway))
    assert ingress["spec"]["tls"] == [{"hosts": [rule["host"]], "secretName": "perception-tls"}]


def test_a_route_leads_to_the_gateway() -> None:
    (route,) = chart.objects("GRPCRoute", values=SWITCHES["gateway api"])
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    service = chart.named("Service", backend["name"], values=SWITCHES["gateway api"])
    assert service["spec"]["ports"][0]["port"] == backend["port"]
    assert service["spec"].get("clusterIP") != "None"


def test_an_extra_object_is_rendered() -> None:
    names = {one["metadata"]["name"] for one in chart.objects("ConfigMap", values=SWITCHES["extra objects"])}
    assert names == {"perception-extra", "text"}
