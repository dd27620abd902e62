"""The compose files: valid, hardened, and at one with the chart, the settings and the monitoring."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.docker.images import FOLDER, PROJECT, read_pins, version
from deploy.helm.chart_documents import CHART
from services.camera.settings import read_settings as read_cameras
from services.gateway.settings import GatewaySettings
from services.runtime.settings import ServiceSettings, TaskSettings
from services.stack.layout import TASKS
from services.viewer.settings import ViewerSettings
from tests.deploy import chart
from tests.deploy.chart import needs_helm, pod_spec
from tests.deploy.docker.compose import GPU, LAPTOP, Service, load, services, why_no_loader

pytestmark = pytest.mark.skipif(bool(why_no_loader()), reason=why_no_loader())

OURS = ("gateway", "detection", "instance-segmentation", "semantic-segmentation", "classification", "camera", "viewer")
SETTINGS: dict[str, type[ServiceSettings] | type[ViewerSettings]] = {
    "gateway": GatewaySettings,
    "viewer": ViewerSettings,
    **{task.replace("_", "-"): TaskSettings for task in TASKS},
}


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    return services(LAPTOP, tmp_path_factory.mktemp("laptop"))


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    return services(GPU, tmp_path_factory.mktemp("gpu"))


@pytest.mark.parametrize(
    ("files", "edit"),
    [
        (LAPTOP, ("read_only: true", "readonly: true")),  # an unknown key
        (LAPTOP, ("condition: service_healthy", "condition: healthy")),
        (LAPTOP, ("interval: 30s", "interval: [30s]")),
        (GPU, ("capabilities: [gpu]", "capabilities: gpu")),
    ],
)
def test_the_loader_refuses_what_is_wrong(files: tuple[Path, ...], edit: tuple[str, str], tmp_path: Path) -> None:
    assert load(files, tmp_path, edit).returncode != 0


def test_the_parts(laptop: dict[str, Service], gpu: dict[str, Service]) -> None:
    assert set(laptop) == {*OURS, "model-repository", "prometheus", "grafana"}
    assert set(gpu) == {*laptop, "model-verification", "triton"}


def test_every_container_is_hardened(gpu: dict[str, Service]) -> None:
    for name, service in gpu.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert service["tmpfs"] == ["/tmp"], name
        if name not in ("prometheus", "grafana"):  # whose images name a user of their own
            assert service["user"] == "1000:1000", name


def test_images_are_the_charts_and_those_that_are_pinned(gpu: dict[str, Service]) -> None:
    pins = read_pins()
    expected = dict.fromkeys(OURS, f"perception-services:{version()}")
    expected |= {"model-repository": f"perception-models:{version()}"}
    expected |= dict.fromkeys(("model-verification", "triton"), pins["TRITON_IMAGE"])
    expected |= {"prometheus": pins["PROMETHEUS_IMAGE"], "grafana": pins["GRAFANA_IMAGE"]}
    assert {name: service["image"] for name, service in gpu.items()} == expected


def test_ports_are_open_to_this_machine_alone(gpu: dict[str, Service]) -> None:
    published = {name: service["ports"] for name, service in gpu.items() if service.get("ports")}
    assert set(published) == {"gateway", "viewer", "prometheus", "grafana"}
    for ports in published.values():
        assert [port["host_ip"] for port in ports] == ["127.0.0.1"]


def test_what_runs_has_a_health_check(gpu: dict[str, Service]) -> None:
    jobs = {name for name, service in gpu.items() if not service.get("healthcheck")}
    assert jobs == {"model-repository", "model-verification"}
    assert {gpu[name]["restart"] for name in jobs} == {"no"}


@needs_helm
def test_triton_starts_when_its_models_are_verified_as_in_the_chart(gpu: dict[str, Service]) -> None:
    """The command is the chart's, which is run on a repository with a wrong bit in tests/deploy/test_triton.py."""
    verification = gpu["model-verification"]
    *_, in_chart = pod_spec(chart.named("Deployment", "perception-triton-default"))["initContainers"]
    assert in_chart["name"] == "model-verification"
    assert verification["entrypoint"] == in_chart["command"]
    assert verification["working_dir"] == verification["volumes"][0]["target"] == in_chart["workingDir"]
    finished = {"condition": "service_completed_successfully", "required": True}
    assert verification["depends_on"] == {"model-repository": finished}
    assert gpu["triton"]["depends_on"] == {"model-verification": finished}


@pytest.mark.parametrize("files", [LAPTOP, GPU], ids=["laptop", "gpu"])
def test_settings_are_known_and_allowed(
    files: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, service in services(files, tmp_path).items():
        if name in SETTINGS:
            with monkeypatch.context() as environment:
                for variable, value in service["environment"].items():
                    assert variable.lower() in SETTINGS[name].model_fields, (name, variable)
                    environment.setenv(variable, value)
                settings = SETTINGS[name]()
            assert str(settings.port) == str(_health_port(service))


def test_addresses_lead_to_services_and_their_ports(gpu: dict[str, Service]) -> None:
    listening = {name: int(gpu[name]["environment"]["PORT"]) for name in SETTINGS}
    cameras = read_cameras(FOLDER / "cameras.yaml")
    listening |= {"camera": cameras.port, "triton": 8001}
    found = {cameras.gateway}
    for service in gpu.values():
        environment = service["environment"]
        found |= {value for key, value in environment.items() if key.endswith("_URL") or key == "CAMERA_AGENTS"}
    assert found == {f"{name}:{port}" for name, port in listening.items() if name != "viewer"}
    assert cameras.host == "0.0.0.0"


def test_the_gateway_is_told_of_every_task(laptop: dict[str, Service]) -> None:
    for task in TASKS:
        assert laptop["gateway"]["environment"][f"{task.upper()}_URL"] == f"{task.replace('_', '-')}:50050"


def test_every_process_of_ours_is_told_of_the_collector_that_the_shell_names(gpu: dict[str, Service]) -> None:
    passed_on = gpu["gateway"]["passed_on"]
    assert {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"} <= passed_on
    documented = (PROJECT / "docs/deployment.md").read_text()
    assert [name for name in passed_on if name not in documented] == []
    assert {name: service["passed_on"] for name, service in gpu.items() if service["passed_on"]} == dict.fromkeys(
        OURS, passed_on
    )


def test_engines(laptop: dict[str, Service], gpu: dict[str, Service]) -> None:
    for task in TASKS:
        name = task.replace("_", "-")
        assert laptop[name]["command"] == gpu[name]["command"] == ["python", "-m", f"services.{task}"]
        assert laptop[name]["environment"]["ENGINE"] == "onnxruntime"
        assert gpu[name]["environment"]["ENGINE"] == "triton"
        assert f"--load-model={task}" in gpu["triton"]["command"]


def test_what_is_mounted_is_there(gpu: dict[str, Service]) -> None:
    declared = yaml.safe_load((FOLDER / "compose.yaml").read_text())["volumes"]
    for name, service in gpu.items():
        for volume in service.get("volumes") or []:
            if volume["type"] == "volume":
                assert volume["source"] in declared, name
            else:
                # The loader read a copy in another folder.
                relative = volume["source"].rpartition("/helm/")[2] if "/helm/" in volume["source"] else None
                source = PROJECT / "deploy/helm" / relative if relative else _beside(volume["source"])
                assert source.exists(), (name, volume["source"])
                assert volume["read_only"] is True, name


def test_prometheus_scrapes_every_service_under_the_labels_of_the_dashboards(gpu: dict[str, Service]) -> None:
    targets = _targets("services.yaml") + _targets("triton.yaml")
    metrics = {name: service["environment"].get("METRICS_PORT") for name, service in gpu.items()}
    metrics |= {"camera": str(read_cameras(FOLDER / "cameras.yaml").metrics_port), "triton": "8002"}
    expected = {f"{name}:{metrics[name]}": name for name in (*OURS, "triton")}
    assert {one["targets"][0]: one["labels"]["component"] for one in targets} == expected
    for one in targets:
        assert set(one["labels"]) - {"pool"} == {"namespace", "component", "pod"}
        assert ("pool" in one["labels"]) == (one["labels"]["component"] == "triton")
    (job,) = yaml.safe_load((FOLDER / "prometheus/prometheus.yaml").read_text())["scrape_configs"]
    assert job["job_name"] == "perception"


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: Debian's package prometheus")
    shutil.copytree(FOLDER / "prometheus", tmp_path / "prometheus")
    shutil.copytree(CHART / "rules", tmp_path / "prometheus/rules")
    command = ["promtool", "check", "config", str(tmp_path / "prometheus/prometheus.yaml")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "2 rule files found" in ran.stdout


def test_grafana_finds_prometheus_and_the_dashboards(laptop: dict[str, Service]) -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana/datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards.yaml").read_text())["providers"]
    mounted = {volume["target"]: volume["source"] for volume in laptop["grafana"]["volumes"]}
    assert mounted[provider["options"]["path"]].endswith("helm/perception/dashboards")
    home = laptop["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (CHART / "dashboards" / Path(home).name).is_file()
    assert Path(home).parent == Path(provider["options"]["path"])


@needs_helm
class TestWithTheChart:
    def test_commands(self, laptop: dict[str, Service]) -> None:
        for name in (
            "gateway",
            "detection",
            "instance-segmentation",
            "semantic-segmentation",
            "classification",
            "viewer",
        ):
            assert laptop[name]["command"] == _container(f"perception-{name}", "edge")["command"]
        agent = _container("perception-camera-yard", "edge", chart.AGENT)
        assert laptop["camera"]["command"] == agent["command"]
        (copies,) = pod_spec(chart.named("Deployment", "perception-detection", "edge"))["initContainers"]
        assert laptop["model-repository"]["command"] == copies["command"]

    def test_tritons_arguments(self, gpu: dict[str, Service]) -> None:
        # Compose has one Triton: there are no others for callers to find, and none to take over from one that fails.
        only_chart = ("--grpc-max-connection-age",)
        only_compose = ("--exit-on-error",)
        in_chart = _container("perception-triton-default")["args"]
        assert {one for one in gpu["triton"]["command"] if not one.startswith(only_compose)} == {
            one for one in in_chart if not one.startswith(only_chart)
        }

    def test_ports(self, laptop: dict[str, Service]) -> None:
        for name in ("gateway", "detection", "viewer"):
            ports = {str(one["containerPort"]) for one in _container(f"perception-{name}")["ports"]}
            environment = laptop[name]["environment"]
            assert ports == {environment["PORT"], environment["METRICS_PORT"]}


def _container(deployment: str, preset: str = "default", values: str = "") -> dict[str, Any]:
    (found,) = pod_spec(chart.named("Deployment", deployment, preset, values))["containers"]
    return dict(found)


def _health_port(service: Service) -> int:
    (asked,) = (one for one in service["healthcheck"]["test"] if "localhost:" in one)
    return int(asked.partition("localhost:")[2][:5].strip("/'"))


def _beside(source: str) -> Path:
    """A path that the loader found beside a copy of the compose files, in the folder of the real ones."""
    parts = Path(source).parts
    for start in range(1, len(parts)):
        candidate = FOLDER.joinpath(*parts[start:])
        if candidate.exists():
            return candidate
    return FOLDER / parts[-1]


def _targets(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((FOLDER / "prometheus/targets" / name).read_text())
    return found
