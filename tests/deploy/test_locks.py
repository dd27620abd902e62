"""What deploy/locks promises: every environment whole, at the versions that pyproject.toml asks for, by hash."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.lock import EVERYTHING, LOCKED, LOCKS, PROJECT, TRITON, WITHOUT_DEPENDENCIES, Lock, build_requirements

FILES = sorted(LOCKS.glob("*.txt"))
OURS = {"perception-client", "perception-services"}
LEFT_OUT = {"opencv-python", "matplotlib"}
"""What deploy/requirements-without-dependencies.txt keeps away, and says why."""
RENEW = "make lock"


def _pinned(path: Path) -> list[Requirement]:
    """What a lock holds for this platform."""
    lines = re.findall(r"(?m)^([^\s#-][^\\\n]*?) *\\?$", path.read_text())
    held = [Requirement(line) for line in lines]
    return [one for one in held if one.marker is None or one.marker.evaluate()]


def _versions(path: Path) -> dict[str, str]:
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in _pinned(path)}


def _asked(lock: Lock) -> list[Requirement]:
    """What pyproject.toml asks for where an environment is installed; ours among ours resolved."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    client = tomllib.loads((PROJECT / "clients/python/pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *client["dependencies"], *(build_requirements() if lock.built_here else [])]
    extras = list(lock.extras)
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            requirement = Requirement(line)
            extras += requirement.extras if requirement.name == "perception-services" else []
            asked.append(line)
    bare = re.findall(r"(?m)^[^#\s].*$", WITHOUT_DEPENDENCIES.read_text())
    return [one for one in map(Requirement, [*asked, *bare]) if one.name not in OURS]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestEveryLock:
    def test_pins_each_package_to_one_version_with_its_hashes(self, path: Path) -> None:
        parts = re.split(r"(?m)^(?=\S)", path.read_text())[1:]
        assert parts
        for part in parts:
            assert re.match(r"[\w.-]+==[\w.]+ ", part), part
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", part), part.splitlines()[0]
        names = [canonicalize_name(one.name) for one in _pinned(path)]
        assert sorted(names) == sorted(set(names))

    def test_names_no_place_that_packages_come_from(self, path: Path) -> None:
        assert re.findall(r"://|--index|--find-links|^-", path.read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("lock", LOCKED, ids=lambda lock: lock.name)
class TestEnvironments:
    def test_holds_what_pyproject_asks_for(self, lock: Lock) -> None:
        locked = _versions(lock.path)
        missing = [
            str(one)
            for one in _asked(lock)
            if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"), prereleases=True)
        ]
        assert missing == [], RENEW

    def test_holds_what_its_packages_load(self, lock: Lock) -> None:
        locked = _versions(lock.path)
        missing: dict[str, list[str]] = {}
        for one in _pinned(lock.path):
            try:
                needed = metadata.requires(one.name) or []
            except metadata.PackageNotFoundError:
                continue  # of an environment that is not this one
            extras = {"", *({"grpc"} if one.name == "tritonclient" else ())}
            for requirement in map(Requirement, needed):
                applies = requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras)
                if applies and canonicalize_name(requirement.name) not in locked:
                    missing.setdefault(canonicalize_name(requirement.name), []).append(one.name)
        assert missing.keys() <= LEFT_OUT, missing

    def test_agrees_with_the_largest(self, lock: Lock) -> None:
        everything = _versions(EVERYTHING.path)
        locked = _versions(lock.path)
        assert {name: everything.get(name) for name in locked} == locked


def test_this_environment_is_the_locked_one() -> None:
    locked = _versions(LOCKS / "dev.txt")
    installed = {canonicalize_name(one.metadata["Name"]): one.version for one in metadata.distributions()}
    different = {name: installed.get(name) for name, version in locked.items() if installed.get(name) != version}
    assert different == {}, "make environment-dev"


def test_what_builds_our_packages_is_locked() -> None:
    locked = _versions(LOCKS / "build.txt")
    for requirement in map(Requirement, build_requirements()):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def test_triton_is_locked_as_it_is_asked_for() -> None:
    asked = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", TRITON.read_text()))
    assert _versions(LOCKS / "triton.txt") == asked


def test_every_npm_package_is_known_by_its_hash() -> None:
    lock = json.loads((LOCKS / "buf/package-lock.json").read_text())["packages"]
    asked = json.loads((LOCKS / "buf/package.json").read_text())["dependencies"]
    assert lock[""]["dependencies"] == asked
    packages = {name: package for name, package in lock.items() if name}
    assert {"node_modules/@bufbuild/buf", "node_modules/@bufbuild/buf-linux-x64"} <= packages.keys()
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert package["version"] == asked["@bufbuild/buf"], name


@pytest.mark.parametrize("name", ["Makefile", "deploy/docker/services.Dockerfile", "deploy/docker/models.Dockerfile"])
def test_nothing_is_installed_past_the_locks(name: str) -> None:
    text = re.sub(r"\\\n", " ", (PROJECT / name).read_text())
    steps = [
        step for step in re.split(r"&&|;|\n", text) if re.search(r"\$\(PIP\)|\$pip\b|bin/pip (install|wheel)", step)
    ]
    assert len(steps) >= 3
    # Our own packages come from this folder; PyTorch for CPUs alone comes from an index that whoever builds names.
    allowed = r"--require-hashes|\$\(LOCKED\)|\$\(OURS\)|/wheels/|--no-deps --no-build-isolation"
    assert [step for step in steps if not re.search(allowed, step)] == []
    assert "--only-binary=:all:" in text  # an sdist would run code of its own, and fetch what builds it
