"""Triton's pools: which models on which GPU, and where the models come from."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from models.export.manifest import write_manifest
from tests.deploy import chart
from tests.deploy.chart import SWITCHES, Object, environment, needs_helm, pod_spec

pytestmark = needs_helm


def _triton(name: str = "perception-triton-default", preset: str = "default", values: str = "") -> Object:
    return pod_spec(chart.named("Deployment", name, preset, values))


def test_a_pool_asks_for_its_gpu_and_bears_the_taint_of_such_nodes() -> None:
    pod = _triton()
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]


def test_a_part_of_a_gpu_is_asked_for_by_its_name() -> None:
    pod = _triton(values=SWITCHES["mig"])
    limits = pod["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/mig-1g.10gb"] == 1
    assert "nvidia.com/gpu" not in limits
    assert pod["runtimeClassName"] == "nvidia"
    ((term,),) = (
        one["matchExpressions"]
        for one in pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]
    )
    assert term == {
        "key": "nvidia.com/gpu.product",
        "operator": "In",
        "values": ["NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"],
    }


def test_without_gpus_none_is_asked_for() -> None:
    pod = _triton(preset="cpu")
    assert not [key for key in pod["containers"][0]["resources"]["limits"] if "nvidia" in key]
    assert "tolerations" not in pod
    assert "--allow-gpu-metrics=false" in pod["containers"][0]["args"]


def test_each_pool_loads_its_models_and_no_others() -> None:
    for name, models in (
        ("perception-triton-segmentation", ["instance_segmentation", "semantic_segmentation"]),
        ("perception-triton-small", ["detection", "classification"]),
    ):
        arguments = _triton(name, "gpu")["containers"][0]["args"]
        assert [one for one in arguments if one.startswith("--load-model")] == [f"--load-model={one}" for one in models]


def test_a_task_finds_the_pool_of_its_model() -> None:
    def pool_of(task: str) -> str:
        address = environment(chart.named("Deployment", f"perception-{task}", "gpu"))["TRITON_URL"]
        return address.removeprefix("dns:///perception-triton-").partition(".")[0]

    assert pool_of("detection") == pool_of("classification") == "small"
    assert pool_of("instance-segmentation") == pool_of("semantic-segmentation") == "segmentation"


def test_a_task_may_have_a_model_of_another_name() -> None:
    settings = environment(chart.named("Deployment", "perception-detection", values=SWITCHES["own models"]))
    assert settings["MODEL_NAME"] == "yolo11s"


def test_triton_closes_connections_so_that_callers_find_new_pods() -> None:
    arguments = _triton(values="triton: {maxConnectionAgeSeconds: 90}")["containers"][0]["args"]
    assert "--grpc-max-connection-age=90000" in arguments


def test_one_node_needs_no_triton() -> None:
    components = {
        one["metadata"]["labels"]["app.kubernetes.io/component"] for one in chart.objects("Deployment", "edge")
    }
    assert "triton" not in components
    settings = environment(chart.named("Deployment", "perception-detection", "edge"))
    assert (settings["ENGINE"], settings["MODEL_REPOSITORY"]) == ("onnxruntime", "/models")
    assert "TRITON_URL" not in settings


@pytest.mark.parametrize(
    ("values", "volume", "copies_with"),
    [
        ("", {"emptyDir": {"sizeLimit": "10Gi"}}, "cp"),
        (SWITCHES["bucket"], {"emptyDir": {"sizeLimit": "10Gi"}}, "rclone"),
        (SWITCHES["claim"], {"persistentVolumeClaim": {"claimName": "m", "readOnly": True}}, None),
    ],
)
def test_the_model_repository(values: str, volume: Object, copies_with: str | None) -> None:
    pod = _triton(values=values)
    (found,) = (one for one in pod["volumes"] if one["name"] == "models")
    assert found == {"name": "models", **volume}
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "models")
    assert mount["readOnly"] is True
    assert "--model-repository=/models" in pod["containers"][0]["args"]
    *copying, verifying = pod["initContainers"]
    assert verifying["name"] == "model-verification"
    assert [one["command"][0] for one in copying] == ([copies_with] if copies_with else [])
    for container in copying:
        target = container["volumeMounts"][0]
        assert target == {"name": "models", "mountPath": "/model-repository"}
        assert (container["command"] + container.get("args", []))[-1] == target["mountPath"]


def test_the_keys_of_a_bucket_come_from_a_secret() -> None:
    container, _ = _triton(values=SWITCHES["bucket"])["initContainers"]
    assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    assert {"name": "RCLONE_CONFIG_MODELS_ENV_AUTH", "value": "true"} in container["env"]
    assert "models:perception/demo" in container["args"]


@pytest.mark.skipif(shutil.which("rclone") is None, reason="rclone missing")
def test_rclone_copies_a_repository(tmp_path: Path) -> None:
    # The arguments of the init container, run by a real rclone on a remote that is a folder.
    values = """
modelRepository:
  source: objectStore
  objectStore: {source: "models:SOURCE", environment: {RCLONE_CONFIG_MODELS_TYPE: local}}
"""
    model = tmp_path / "bucket" / "detection" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    container, _ = _triton(values=values.replace("SOURCE", str(tmp_path / "bucket")))["initContainers"]
    arguments = [one.replace("/model-repository", str(tmp_path / "copy")) for one in container["args"]]
    environment = {one["name"]: one["value"] for one in container["env"]}
    environment |= {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    ran = subprocess.run(
        [*container["command"], *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "copy" / "detection" / "1" / "model.onnx").read_bytes() == b"weights"


def test_cp_copies_a_repository(tmp_path: Path) -> None:
    model = tmp_path / "image" / "detection" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    values = f"modelRepository: {{image: {{path: {tmp_path}/image/}}}}"
    container, _ = _triton(values=values)["initContainers"]
    (tmp_path / "copy").mkdir()  # a volume is there before the command
    command = [one.replace("/model-repository", str(tmp_path / "copy")) for one in container["command"]]
    subprocess.run(command, check=True)
    assert (tmp_path / "copy" / "detection" / "1" / "model.onnx").read_bytes() == b"weights"


def test_a_repository_is_verified_before_triton_reads_it(tmp_path: Path) -> None:
    """The container's command, run on a repository that was built, and on one in which a bit is another one."""
    pod = _triton(values=SWITCHES["claim"])
    (container,) = pod["initContainers"]
    assert container["image"] == pod["containers"][0]["image"]
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"] == "/models"
    model = tmp_path / "detection" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    write_manifest(tmp_path, ["detection"])

    def verify() -> subprocess.CompletedProcess[str]:
        return subprocess.run(container["command"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert verify().returncode == 0
    model.write_bytes(b"weighty")
    refused = verify()
    assert refused.returncode != 0
    assert "detection/1/model.onnx: FAILED" in refused.stdout


def test_a_repository_without_digests_can_be_served() -> None:
    assert "initContainers" not in _triton(values=SWITCHES["claim"].replace("demo}}", "demo}, verify: false}"))
