"""What the bill of materials says besides the packages of a lock."""

from __future__ import annotations

import hashlib

from deploy.docker.images import read_pins
from deploy.lock import PROJECT
from deploy.sbom import images, models

WEIGHTS = PROJECT / "models/weights"


def test_every_model_that_the_project_brings_is_there_with_the_hash_of_its_file() -> None:
    stated = {component["name"]: component["hashes"][0]["content"] for component in models()}
    actual = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in WEIGHTS.glob("*.onnx")}
    assert actual
    assert stated == actual


def test_a_models_licence_is_its_own() -> None:
    licences = {component["name"]: component["licenses"][0]["license"]["name"] for component in models()}
    assert licences["demo_detector"] == "AGPL-3.0"
    assert licences["demo_bisenet"] == "Apache-2.0"


def test_every_image_of_others_is_there_with_its_digest() -> None:
    stated = {component["name"]: component.get("hashes") for component in images()}
    for reference in read_pins().values():
        tagged, _, digest = reference.partition("@sha256:")
        assert stated[tagged.rpartition(":")[0]] == ([{"alg": "SHA-256", "content": digest}] if digest else None)
