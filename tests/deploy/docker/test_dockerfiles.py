"""What the Dockerfiles say, and the command that builds them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deploy.docker import images
from deploy.docker.images import FOLDER, IMAGES, PINS, build_command, read_pins, version, write_pins
from deploy.helm.chart_documents import CHART

DIGEST = "sha256:" + "0123456789abcdef" * 4
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))


def _instructions(path: Path) -> list[tuple[str, str]]:
    """Each instruction and its arguments, on one line."""
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text()).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def _pinned() -> dict[str, str]:
    return {name: f"{reference.partition('@')[0]}@{DIGEST}" for name, reference in read_pins().items()}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
class TestDockerfiles:
    def test_stands_on_pinned_images_and_its_own_stages_alone(self, path: Path) -> None:
        stages: set[str] = {"scratch"}
        for instruction, arguments in _instructions(path):
            if instruction == "FROM":
                base, *named = arguments.split(" AS ")
                if variable := re.fullmatch(r"\$\{(\w+)\}", base):
                    assert variable[1] in read_pins()
                else:
                    assert base in stages
                stages.update(named)
            if instruction in ("COPY", "RUN") and (source := re.search(r"\bfrom=([\w-]+)", arguments)):
                assert source[1] in stages

    def test_base_images_have_no_default_that_would_go_unpinned(self, path: Path) -> None:
        pins = read_pins()
        given = [arguments for instruction, arguments in _instructions(path) if instruction == "ARG"]
        assert [one for one in given if one.split("=")[0] in pins and "=" in one] == []

    def test_what_is_built_runs_without_root(self, path: Path) -> None:
        built = {image.target for image in IMAGES if image.file == path.name}
        user: dict[str, str] = {}
        stage = ""
        for instruction, arguments in _instructions(path):
            if instruction == "FROM":
                stage = arguments.partition(" AS ")[2]
            if instruction == "USER":
                user[stage] = arguments
        assert {target: user.get(target) for target in built} == dict.fromkeys(built, "1000:1000")

    def test_no_secret_is_an_argument_or_a_variable(self, path: Path) -> None:
        # Both stay in an image's history for whoever pulls it; files that are mounted for one step do not.
        named = [arguments for instruction, arguments in _instructions(path) if instruction in ("ARG", "ENV")]
        assert [one for one in named if re.search("(?i)token|secret|passw|credential|private|_key", one)] == []

    def test_what_is_built_takes_nothing_from_the_folder_itself(self, path: Path) -> None:
        built = {image.target for image in IMAGES if image.file == path.name}
        stage = ""
        for instruction, arguments in _instructions(path):
            if instruction == "FROM":
                stage = arguments.partition(" AS ")[2]
            assert not (instruction == "ADD" and stage in built)
            assert not (instruction == "COPY" and stage in built and not arguments.startswith("--from="))

    def test_default_version_is_the_charts(self, path: Path) -> None:
        defaults = {arguments for instruction, arguments in _instructions(path) if arguments.startswith("VERSION=")}
        assert defaults == {f"VERSION={version()}"}

    def test_nothing_but_what_is_named_goes_into_a_build(self, path: Path) -> None:
        rules = [line for line in Path(f"{path}.dockerignore").read_text().splitlines() if not line.startswith("#")]
        assert rules[0] == "**"
        needed = {"clients/python", "loadtest", "models", "protos", "pyproject.toml", "services"}
        assert needed <= {rule[1:] for rule in rules if rule.startswith("!")}


def test_bundled_weights_stay_out_of_the_services() -> None:
    assert "models/weights/*.onnx" in (FOLDER / "services.Dockerfile.dockerignore").read_text().splitlines()
    assert "models/weights" not in (FOLDER / "models.Dockerfile.dockerignore").read_text()


def test_images_have_the_names_that_the_chart_expects() -> None:
    values = images.yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["image"]["repository"] == "perception-services"
    assert values["modelRepository"]["image"]["repository"] == "perception-models"
    assert {"perception-services", "perception-models"} == set(images.DEFAULT_IMAGES)
    triton = values["triton"]["image"]
    assert read_pins()["TRITON_IMAGE"].partition("@")[0] == f"{triton['repository']}:{triton['tag']}"


def test_every_base_has_a_tag_that_stays() -> None:
    for reference in read_pins().values():
        tag = reference.partition("@")[0].rpartition("/")[2].partition(":")[2]
        assert re.search(r"\d", tag), reference  # `latest`, or no tag at all, would be another image every day


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
class TestBuildCommand:
    def test_bases_go_in_by_digest(self, image: images.Image) -> None:
        command = build_command(image, _pinned(), "docker", [], None)
        for base in image.bases:
            (given,) = (one for one in command if one.startswith(f"--build-arg={base}="))
            assert given.endswith(f"@{DIGEST}")

    def test_buildah_takes_no_tag_beside_a_digest(self, image: images.Image) -> None:
        command = build_command(image, _pinned(), "buildah", [], None)
        assert f"--build-arg=PYTHON_IMAGE=docker.io/library/python@{DIGEST}" in command

    def test_an_unpinned_base_is_refused(self, image: images.Image) -> None:
        with pytest.raises(
            ValueError, match=r"PYTHON_IMAGE: expected name:tag@sha256:…, found .*:3\.11; `make pin-images`"
        ):
            build_command(image, {**_pinned(), "PYTHON_IMAGE": "docker.io/library/python:3.11"}, "docker", [], None)

    @pytest.mark.parametrize("wrong", ["x:1@sha256:12", "x:1@md5:" + "0" * 64, f"x:1@{DIGEST}0", f"@{DIGEST}", ""])
    def test_what_is_no_digest_is_refused(self, image: images.Image, wrong: str) -> None:
        with pytest.raises(ValueError, match="expected name:tag@sha256"):
            build_command(image, {**_pinned(), "PYTHON_IMAGE": wrong}, "buildah", [], None)

    def test_tag_arguments_and_weights(self, image: images.Image, tmp_path: Path) -> None:
        command = build_command(image, _pinned(), "docker", ["PROFILE=street"], tmp_path)
        assert f"--tag={image.name}:{version()}" in command
        assert "--build-arg=PROFILE=street" in command
        assert f"--build-context=weights={tmp_path}" in command


def test_an_unknown_image_is_named() -> None:
    ran = CliRunner().invoke(images.app, ["build", "perception-torch"])
    assert ran.exit_code == 2
    assert "perception-torch" in ran.output


class TestPin:
    @pytest.fixture
    def pins(self, tmp_path: Path) -> Path:
        copy = tmp_path / ".env"
        copy.write_text(PINS.read_text())
        return copy

    def test_writing_keeps_comments_and_order(self, pins: Path) -> None:
        write_pins(pins, _pinned())
        assert read_pins(pins) == _pinned()
        kept = [line.partition("=")[0] for line in pins.read_text().splitlines()]
        assert kept == [line.partition("=")[0] for line in PINS.read_text().splitlines()]

    def test_digests_are_added_and_then_renewed(self, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # The registry is all that is not real here; tests/deploy/docker/test_built_images.py asks a real one.
        for digest in (DIGEST, "sha256:" + "f" * 64):
            monkeypatch.setattr(images, "resolve", lambda reference, digest=digest: digest)
            assert CliRunner().invoke(images.app, ["pin", "--pins", str(pins), "--check"]).exit_code == 1
            assert CliRunner().invoke(images.app, ["pin", "--pins", str(pins)]).exit_code == 0
            assert {reference.partition("@")[2] for reference in read_pins(pins).values()} == {digest}
            assert CliRunner().invoke(images.app, ["pin", "--pins", str(pins), "--check"]).exit_code == 0
        assert [one.partition("@")[0] for one in read_pins(pins).values()] == [
            one.partition("@")[0] for one in read_pins().values()
        ]

    def test_a_registry_that_does_not_answer_is_named(self) -> None:
        if not (images.shutil.which("skopeo") or images.shutil.which("docker")):
            pytest.skip("neither skopeo nor docker is here")
        with pytest.raises(typer.BadParameter, match="localhost:1/nothing:1"):
            images.resolve("localhost:1/nothing:1")
