"""What takes bytes from others inside one process, and the errors with which it may refuse them."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np
import yaml
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from perception import Scene, codecs
from perception.v1 import (
    detection_pb2,
    geometry_pb2,
    image_pb2,
    instance_segmentation_pb2,
    perception_pb2,
    semantic_segmentation_pb2,
)
from PIL import Image

from models.catalog.schema import CATALOG, CatalogError, load_entry, load_profile
from models.evaluation.plan import PLANS, load_plan
from models.training.config import CONFIG_FOLDER, ConfigError, load_config
from services.camera.settings import SettingsError
from services.camera.settings import read_settings as read_cameras
from services.gateway.taxonomy import TAXONOMY_FOLDER, Taxonomy, TaxonomyError
from services.runtime import images
from services.runtime.engines.onnxruntime import _read_config
from services.runtime.errors import ContractViolation, InvalidInput, LimitExceeded
from services.runtime.images import ImageLimits
from services.runtime.model_contract import model_from_config
from services.runtime.tokens import read_tokens
from tests.fuzz.messages import random_message
from tests.support.contract_models import configuration

PROJECT = Path(__file__).resolve().parents[2]
_LIMITS = ImageLimits(max_bytes=32 * 2**20, max_pixels=4_000_000)
_SIDE = 48
_YAML_TOKENS = (
    *(b"- ", b": ", b"? ", b"\n", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"<<: *a\n", b"!!", b"!!int ", b"!!float "),
    *(b"!!binary ", b"!!timestamp ", b"!!set ", b"!!python/object:os.system ", b"2001-99-99", b"0x", b"0o9", b".nan"),
    b"\n".join([b"a0: &a0 {x: 1}", *(b"a%d: &a%d [*a%d, *a%d]" % (n, n, n - 1, n - 1) for n in range(1, 40)), b""]),
    *(b"9" * 5000, b"[" * 2000, b"1:2:3", b"\x00", b"\xff\xfe", b"null", b"~", b"true", b"- x\n", b"|\n", b"---\n"),
)


@dataclass(frozen=True)
class Target:
    """Something that reads bytes of others.

    seeds: valid ones. run: reads them. refusals: the errors that it documents. tokens: words of its language.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    tokens: tuple[bytes, ...] = ()


def picture_files(largest: int = 100_000) -> list[bytes]:
    """Encoded pictures: small ones of every format, and the nasty ones of PERCEPTION_DATA where it is at hand."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
    made = []
    for suffix, options in (
        (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 80)),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".png", ()),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 50)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
        (".bmp", ()),
        (".tiff", ()),
    ):
        for shown in (picture, picture[..., 0]):
            made.append(cv2.imencode(suffix, shown, options)[1].tobytes())
    made.append(cv2.imencode(".png", picture.astype(np.uint16) * 257)[1].tobytes())
    made += [_film("PNG", picture), _film("WEBP", picture)]
    data = os.environ.get("PERCEPTION_DATA")
    files = sorted((Path(data) / "nasty").glob("*")) if data else []
    return made + [path.read_bytes() for path in files if path.is_file() and path.stat().st_size <= largest]


def _film(file_format: str, picture: NDArray[np.uint8]) -> bytes:
    """An animated picture of three frames."""
    written = io.BytesIO()
    frames = [Image.fromarray(picture + np.uint8(added)) for added in (0, 50, 100)]
    frames[0].save(written, file_format, save_all=True, append_images=frames[1:], duration=40)
    return written.getvalue()


def _raw_pictures() -> list[bytes]:
    raw = image_pb2.RawImage(format=image_pb2.PIXEL_FORMAT_RGB8, height=2, width=1, data=bytes(6))
    strided = image_pb2.RawImage(format=image_pb2.PIXEL_FORMAT_GRAY8, height=2, width=2, stride=3, data=bytes(5))
    return [image_pb2.Image(raw=one).SerializeToString() for one in (raw, strided)]


def _decode(image: image_pb2.Image) -> None:
    images.decode(image, _LIMITS)


def _masks() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [codecs.encode_rle(rng.random((_SIDE, _SIDE)) < share) for share in (0, 0.02, 0.5, 0.98, 1)]


def _maps() -> list[bytes]:
    ids = np.arange(_SIDE * _SIDE, dtype=np.int32).reshape(_SIDE, _SIDE)
    grey = (ids % 256).astype(np.uint8)
    return [codecs.encode_panoptic_png(ids), codecs.encode_png(grey), _film("PNG", grey)]


def _answers() -> list[bytes]:
    """Scenes as a gateway sends them, and one whose fields hold anything."""
    ids = np.zeros((_SIDE, _SIDE), np.int32)
    ids[8:24, 8:24] = 1
    box = geometry_pb2.Box(x_min=8, y_min=8, x_max=24, y_max=24)
    size = image_pb2.ImageSize(height=_SIDE, width=_SIDE)
    segment = perception_pb2.Segment(id=1, category="red", category_id=1, is_thing=True, score=0.9, box=box, area=256)
    mask = geometry_pb2.BoxMask(size=7, probabilities=bytes(49))
    scene = perception_pb2.PerceiveResponse(
        image_size=size,
        panoptic=perception_pb2.Panoptic(size=size, png=codecs.encode_panoptic_png(ids), segments=[segment]),
        detections=[detection_pb2.Detection(box=box, score=0.9, class_id=1, label="red")],
        instances=[instance_segmentation_pb2.Instance(box=box, score=0.9, class_id=1, label="red", box_mask=mask)],
        class_map=semantic_segmentation_pb2.ClassMap(size=size, png=_maps()[1], labels=["dark", "bright"]),
    )
    runs = perception_pb2.PerceiveResponse.FromString(scene.SerializeToString())
    runs.panoptic.png = b""
    runs.panoptic.segments[0].rle.counts = codecs.encode_rle(ids == 1)
    anything = random_message(perception_pb2.PerceiveResponse.DESCRIPTOR, [], Random(0))
    return [scene.SerializeToString(), runs.SerializeToString(), anything.SerializeToString()]


def _in_file(read: Callable[[Path], object], name: str = "fuzzed.yaml") -> Callable[[bytes], object]:
    folder = Path(tempfile.mkdtemp())

    def run(data: bytes) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return run


def _files(folder: Path) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted(folder.glob("*.yaml"))]


def _entries() -> list[bytes]:
    # An entry has the name of its file.
    return [re.sub(rb"(?m)^name: .*$", b"name: fuzzed", entry) for entry in _files(CATALOG)()]


def _cameras() -> list[bytes]:
    cameras = {
        "name": "gate",
        "source": "rtsp://user:secret@camera/stream",
        "transport": "tcp",
        "stream": {"deadline_seconds": 1.5, "priority": "high"},
        "sinks": [{"kind": "jsonl", "path": "a.jsonl"}, {"kind": "annotated_video", "path": "a.mp4"}],
    }
    whole = {"gateway": "gateway:50050", "port": 50060, "cameras": [cameras, {"name": "b", "source": "films/"}]}
    return [(PROJECT / "deploy/docker/cameras.yaml").read_bytes(), yaml.safe_dump(whole).encode()]


def _tokens() -> list[bytes]:
    entries = [
        {
            "name": "gate",
            "sha256": "a" * 64,
            "scopes": ["perceive"],
            "expires": "2099-02-19 10:20:00+00:00",
            "rate": 2.5,
        },
        {"name": "page", "sha256": "b" * 64, "scopes": ["watch", "describe"], "streams": 2},
    ]
    return [yaml.safe_dump(entries).encode()]


def _configurations() -> list[bytes]:
    tasks = ("detection", "instance_segmentation", "semantic_segmentation", "classification")
    return [configuration(task).encode() for task in tasks]


TARGETS = (
    Target(
        "picture",
        picture_files,
        lambda data: _decode(image_pb2.Image(encoded=data)),
        (InvalidInput, LimitExceeded),
        (
            b"\xff\xd8\xff",
            b"\xff\xda",
            b"\xff\xc0",
            b"\xff\xc2",
            b"\xff\xe1",
            b"Exif\x00\x00",
            b"IHDR",
            b"IDAT",
            b"eXIf",
        ),
    ),
    Target(
        "raw_picture",
        _raw_pictures,
        lambda data: _decode(image_pb2.Image.FromString(data)),
        (InvalidInput, LimitExceeded, DecodeError),
    ),
    Target("run_lengths", _masks, lambda data: codecs.decode_rle(data, _SIDE, _SIDE), (ValueError,)),
    Target("area_of_run_lengths", _masks, codecs.rle_area, (ValueError,)),
    Target(
        "map", _maps, lambda data: codecs.decode_panoptic_png(data, _SIDE, _SIDE), (ValueError,), (b"IHDR", b"tRNS")
    ),
    Target(
        "answer",
        _answers,
        lambda data: Scene.from_message(perception_pb2.PerceiveResponse.FromString(data)),
        (ValueError, DecodeError),
    ),
    Target("cameras", _cameras, _in_file(read_cameras), (SettingsError,), _YAML_TOKENS),
    Target("tokens", _tokens, _in_file(read_tokens), (ValueError,), _YAML_TOKENS),
    Target("taxonomy", _files(TAXONOMY_FOLDER), _in_file(Taxonomy.load), (TaxonomyError,), _YAML_TOKENS),
    Target(
        "catalogue_entry",
        _entries,
        _in_file(lambda path: load_entry(path.stem, path.parent)),
        (CatalogError,),
        _YAML_TOKENS,
    ),
    Target(
        "profile",
        _files(CATALOG.parent / "profiles"),
        _in_file(lambda path: load_profile(path.stem, path.parent)),
        (CatalogError,),
        _YAML_TOKENS,
    ),
    Target(
        "evaluation_plan",
        _files(PLANS),
        _in_file(lambda path: load_plan(path.stem, path.parent)),
        (CatalogError,),
        _YAML_TOKENS,
    ),
    Target("training_run", _files(CONFIG_FOLDER), _in_file(load_config), (ConfigError,), _YAML_TOKENS),
    Target(
        "model_configuration",
        _configurations,
        _in_file(lambda path: model_from_config(_read_config(path.parent, "fuzzed"), "1"), "config.pbtxt"),
        (ContractViolation,),
        (
            b"max_batch_size: -9",
            b"dims: [ -1 ]",
            b"dims: 9999999999",
            b"string_value: ",
            b"parameters {",
            b"}",
            b"\x00",
        ),
    ),
)
