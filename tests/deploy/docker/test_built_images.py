"""The images, built and run by `make test-images`. Takes minutes, root, buildah, and Debian's and Python's packages.

Where no registry can be reached, a Debian made with debootstrap bears the name of the base, and is pinned by its own
digest. What the compose files start is started here out of the built images: the same commands, environment and users,
with a root file system that cannot be written to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from perception import PerceptionClient

from deploy.docker.images import PINS, PROJECT, read_pins, version, write_pins
from models.datasets.scenes import SceneSequence
from tests.deploy.docker.compose import LAPTOP, services, why_no_loader
from tests.deploy.docker.composition import Composition
from tests.support.base_image import import_base, make_base, make_busybox
from tests.support.container import USER, UnpackedImage
from tests.support.triton import free_ports

CACHE = PROJECT / ".cache/images"
LARGEST_MEGABYTES = 700
"""What the services' image may take, unpacked; docs/deployment.md says what it takes."""

_NEEDED = ("buildah", "debootstrap", "prometheus", "skopeo", "docker-registry")


def _why_not() -> str:
    if "PERCEPTION_TEST_IMAGES" not in os.environ:
        return "takes minutes: make test-images"
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    return f"missing: {', '.join(missing)}" if missing else why_no_loader()


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(_why_not()), reason=_why_not()),
    pytest.mark.timeout(2400),
]


def _build(pins: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.docker.images", "build", "--builder=buildah", f"--pins={pins}", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins in buildah's store for what the images stand on, and a file that pins them."""
    CACHE.mkdir(parents=True, exist_ok=True)
    made = {"PYTHON_IMAGE": make_base(CACHE / "base.tar"), "BUSYBOX_IMAGE": make_busybox(CACHE / "busybox.tar")}
    path = tmp_path_factory.mktemp("pins") / ".env"
    path.write_text(PINS.read_text())
    tagged = {name: read_pins()[name].partition("@")[0] for name in made}
    write_pins(path, {name: f"{tagged[name]}@{import_base(made[name], tagged[name])}" for name in made})
    return path


@pytest.fixture(scope="session")
def built(pins: Path) -> None:
    """Both images of a cluster, by the command of `make images`."""
    began = time.monotonic()
    ran = _build(pins)
    assert ran.returncode == 0, ran.stderr
    print(f"\nbuilt in {time.monotonic() - began:.0f} s\n{ran.stderr}")


@pytest.fixture(scope="session")
def image(built: None) -> Iterator[UnpackedImage]:
    with UnpackedImage(f"perception-services:{version()}") as unpacked:
        yield unpacked


@pytest.fixture(scope="session")
def models(built: None) -> Iterator[UnpackedImage]:
    with UnpackedImage(f"perception-models:{version()}") as unpacked:
        yield unpacked


@pytest.fixture(scope="session")
def model_job(pins: Path) -> Iterator[UnpackedImage]:
    began = time.monotonic()
    ran = _build(pins, "perception-model-job")
    assert ran.returncode == 0, ran.stderr
    print(f"\nbuilt in {time.monotonic() - began:.0f} s\n{ran.stderr}")
    with UnpackedImage(f"perception-model-job:{version()}") as unpacked:
        yield unpacked


class TestServices:
    def test_is_as_small_as_documented(self, image: UnpackedImage) -> None:
        megabytes = sum(_sizes(image.root).values()) / 1e6
        print(f"\n{megabytes:.0f} MB unpacked")
        for name, size in sorted(_sizes(_site_packages(image)).items(), key=lambda one: -one[1])[:20]:
            print(f"{size / 1e6:8.1f}  {name}")
        assert megabytes < LARGEST_MEGABYTES

    def test_holds_nothing_that_installs_compiles_or_trains(self, image: UnpackedImage) -> None:
        for name in ("pip", "pip3", "apt", "apt-get", "perl", "gcc", "cc", "ld", "strip", "git", "curl", "su", "mount"):
            ran = image.run(["sh", "-c", f"command -v {name}"])
            assert ran.returncode != 0, ran.stdout
        for module in ("pip", "setuptools", "ensurepip", "torch", "torchvision", "ultralytics", "matplotlib"):
            ran = image.run(["python", "-c", f"import {module}"])
            assert "ModuleNotFoundError" in ran.stderr, module

    def test_nothing_gives_another_user(self, image: UnpackedImage) -> None:
        found = subprocess.run(
            ["find", image.root, "-xdev", "-type", "f", "-perm", "/6000"], capture_output=True, text=True, check=True
        )
        assert found.stdout == ""

    def test_holds_no_secrets_weights_or_sources(self, image: UnpackedImage) -> None:
        forbidden = {".git", ".env", ".netrc", ".pypirc", "pip.conf", "id_rsa", "id_ed25519", "tests", "data"}
        suffixes = (".key", ".pt", ".pth", ".tar", ".whl", ".deb")
        files = list(_files(image.root))
        assert [path for path in files if path.name in forbidden or path.name.endswith(suffixes)] == []
        assert [path for path in files if path.suffix == ".onnx" and path.stat().st_size > 1e5] == []
        assert [path for path in (image.root / "source", image.root / "tmp/pip") if path.exists()] == []
        assert not (image.root / "etc/pip.conf").exists()

    def test_certificates_lent_to_the_build_stay_out(self, image: UnpackedImage) -> None:
        # The base's own bundle; a proxy's authority would make this image trust it for good.
        inside = (image.root / "etc/ssl/certs/ca-certificates.crt").read_bytes()
        base = subprocess.run(
            ["tar", "--extract", "--to-stdout", f"--file={CACHE / 'base.tar'}", "./etc/ssl/certs/ca-certificates.crt"],
            capture_output=True,
            check=True,
        )
        assert inside == base.stdout

    def test_labels_say_what_it_is(self, image: UnpackedImage, pins: Path) -> None:
        labels = image.configuration["Labels"]
        digest = read_pins(pins)["PYTHON_IMAGE"].partition("@")[2]
        assert labels["org.opencontainers.image.base.name"].endswith(f"@{digest}")
        assert labels["org.opencontainers.image.version"] == version()
        assert len(labels["org.opencontainers.image.revision"]) == 40

    def test_runs_as_user_1000_without_capabilities_on_a_read_only_root(self, image: UnpackedImage) -> None:
        assert image.configuration["User"] == f"{USER}:{USER}"
        script = "id -u; grep CapEff /proc/self/status; touch /tmp/a && touch /opt/perception/a"
        ran = image.run(["sh", "-c", script])
        assert ran.stdout.split() == [str(USER), "CapEff:", "0" * 16]
        assert "Read-only file system" in ran.stderr

    def test_bytecode_is_there(self, image: UnpackedImage) -> None:
        # Nothing could write it where the image runs, and every start would compile everything again.
        for module in ("services.gateway.perceiver", "asyncio.events", "numpy", "grpc.aio"):
            code = f"import importlib.util as u, os; s = u.find_spec({module!r}); print(os.path.exists(s.cached))"
            assert image.run(["python", "-c", code]).stdout.strip() == "True", module

    def test_modules_come_from_the_image_alone(self, image: UnpackedImage) -> None:
        # A file in the writable folder, which may be the working directory, is not imported.
        ran = image.run(["sh", "-c", "cd /tmp && echo 'print(1)' > services.py && python -c 'import services.gateway'"])
        assert (ran.returncode, ran.stdout) == (0, "")

    @pytest.mark.parametrize(
        "part", ["gateway", "detection", "instance_segmentation", "semantic_segmentation", "viewer"]
    )
    def test_every_part_says_how_it_is_set(self, image: UnpackedImage, part: str) -> None:
        ran = image.run(["python", "-m", f"services.{part}", "--help"])
        assert ran.returncode == 0, ran.stderr
        assert "PORT" in ran.stdout

    def test_a_wrong_digest_is_not_built_on(self, pins: Path, tmp_path: Path) -> None:
        wrong = tmp_path / ".env"
        wrong.write_text(pins.read_text())
        name = read_pins(pins)["PYTHON_IMAGE"].partition("@")[0]
        write_pins(wrong, {"PYTHON_IMAGE": f"{name}@sha256:{'0' * 64}"})
        ran = _build(wrong, "perception-services")
        assert ran.returncode != 0
        assert "0" * 64 in ran.stderr


def test_models_are_copied_as_the_chart_does(models: UnpackedImage, tmp_path: Path) -> None:
    os.chown(tmp_path, USER, USER)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    ran = models.run(["cp", "-R", "/models/.", "/model-repository"], volumes={"/model-repository": (tmp_path, True)})
    assert ran.returncode == 0, ran.stderr
    for task in ("detection", "instance_segmentation", "semantic_segmentation", "classification"):
        assert (tmp_path / task / "config.pbtxt").stat().st_uid == USER
        assert (tmp_path / task / "1" / "model.onnx").stat().st_size > 1e6


_RUN = {
    "architecture": {"name": "classifier", "options": {"widths": [8, 8, 16, 16]}},
    "dataset": {
        "name": "scenes",
        "train_seeds": [0, 2],
        "validation_seeds": [2, 3],
        "frames_per_sequence": 2,
        "width": 128,
        "height": 96,
    },
    "augmentation": {"crop": [32, 32]},
    "seed": 3,
    "steps": 2,
    "batch_size": 4,
    "learning_rate": 0.001,
    "weight_decay": 0.02,
    "warmup_steps": 1,
    "ema_decay": 0.9,
    "validate_every": 2,
}
"""A run of seconds."""


def test_a_model_is_trained_and_built(model_job: UnpackedImage, tmp_path: Path) -> None:
    for name, size in sorted(_sizes(_site_packages(model_job)).items(), key=lambda one: -one[1])[:10]:
        print(f"{size / 1e6:8.1f}  {name}")
    (tmp_path / "tiny.yaml").write_text(json.dumps(_RUN))
    os.chown(tmp_path, USER, USER)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    train = "python -m models.training --model tiny.yaml --device cpu"
    process = model_job.popen(
        ["sh", "-c", f"cd /work && {train} && perception models build demo --output demo"],
        volumes={"/work": (tmp_path, True)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    assert list((tmp_path / "runs" / "tiny").iterdir())
    assert (tmp_path / "demo" / "detection" / "config.pbtxt").stat().st_uid == USER


def test_digests_are_asked_of_a_real_registry(pins: Path, tmp_path: Path) -> None:
    with _Registry(tmp_path) as registry:
        reference = f"{registry}/library/busybox:1.37.0"
        source = read_pins(pins)["BUSYBOX_IMAGE"].partition("@")[0]
        subprocess.run(
            ["buildah", "push", "--quiet", "--tls-verify=false", source, f"docker://{reference}"], check=True
        )
        path = tmp_path / ".env"
        path.write_text(f"BUSYBOX_IMAGE={reference}\n")
        command = [sys.executable, "-m", "deploy.docker.images", "pin", f"--pins={path}"]
        subprocess.run(command, cwd=PROJECT, check=True)
        name, digest = read_pins(path)["BUSYBOX_IMAGE"].split("@")
        assert name == reference
        manifest = urllib.request.Request(
            f"http://{registry}/v2/library/busybox/manifests/{digest}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        )
        with urllib.request.urlopen(manifest, timeout=10) as answer:
            assert answer.headers["Docker-Content-Digest"] == digest
        assert subprocess.run([*command, "--check"], cwd=PROJECT, check=False).returncode == 0


@pytest.fixture(scope="module")
def running(
    image: UnpackedImage, models: UnpackedImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composition]:
    laptop = services(LAPTOP, tmp_path_factory.mktemp("compose"))
    with Composition(laptop, image, models, tmp_path_factory.mktemp("composition")) as composition:
        yield composition


class TestComposition:
    def test_every_health_check_passes(self, running: Composition) -> None:
        for name in running.services:
            running.wait_until_healthy(name)

    def test_a_frame_is_perceived(self, running: Composition) -> None:
        frame = next(iter(SceneSequence("street", seed=9001, length=1))).image
        with PerceptionClient(running.address("gateway", 50050)) as client:
            scene = client.perceive(frame, timeout=60)
        states = {task: status.state for task, status in scene.task_status.items()}
        assert {states.pop(task) for task in ("detection", "instance_segmentation", "semantic_segmentation")} == {"OK"}
        assert states in ({"classification": "OK"}, {"classification": "SKIPPED"})  # by what the frame shows
        assert len(scene.panoptic.segments) > 2

    def test_the_cameras_stream_and_the_page_shows_them(self, running: Composition) -> None:
        with urllib.request.urlopen(f"http://{running.address('viewer', 8080)}/", timeout=10) as answer:
            assert b"<html" in answer.read()
        for camera in ("street", "line"):
            running.wait_for_metric(
                "camera", 9060, f'perception_camera_state{{camera="{camera}",state="streaming"}} 1.0'
            )

    def test_prometheus_finds_every_service_and_its_rules_hold(self, running: Composition) -> None:
        found = running.prometheus('up{job="perception"}')
        assert {one["metric"]["component"] for one in found} == set(running.services)
        assert {one["value"][1] for one in found} == {"1"}

    def test_sigterm_ends_every_service_in_time(self, running: Composition) -> None:
        assert running.stop() == dict.fromkeys(running.services, 0)


def _site_packages(image: UnpackedImage) -> Path:
    return image.root / "opt/perception/lib/python3.11/site-packages"


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / name for name in names)


def _sizes(root: Path) -> dict[str, int]:
    """Bytes in the files of each entry of a folder; symbolic links count nothing."""
    found = {}
    for entry in root.iterdir():
        if not entry.is_symlink():
            files = _files(entry) if entry.is_dir() else [entry]
            found[entry.name] = sum(path.lstat().st_size for path in files if not path.is_symlink())
    return found


class _Registry:
    """A Docker registry on a free port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        (port,) = free_ports(1)
        configuration = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "registry")}},
            "http": {"addr": f"127.0.0.1:{port}"},
        }
        path = self._folder / "registry.json"
        path.write_text(json.dumps(configuration))
        with (self._folder / "registry.log").open("wb") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", str(path)], stdout=log, stderr=log)
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        return f"localhost:{port}"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
