from pathlib import Path

import pytest
import yaml

from models.catalog.schema import (
    CATALOG,
    CatalogError,
    TwoStageHead,
    YoloHead,
    entry_names,
    load_entries,
    load_entry,
    load_labels,
    load_profile,
)
from models.yaml_file import MAX_BYTES

MINIMAL = {
    "name": "some_detector",
    "description": "A detector",
    "task": "detection",
    "adapter": "onnx",
    "image": {"resize": "letterbox", "width": 64, "height": 64},
    "labels": ["cat", "dog"],
    "head": {"kind": "yolo", "layout": "yolov8"},
    "licence": "MIT",
    "source": {"file": "some.onnx", "sha256": "0" * 64},
}


def write(folder: Path, content: dict[str, object]) -> Path:
    path = folder / "some_detector.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_every_entry_of_the_catalogue_loads() -> None:
    entries = load_entries()
    assert {entry.name for entry in entries} == {path.stem for path in CATALOG.glob("*.yaml")}
    assert {entry.task for entry in entries} == {
        "detection",
        "instance_segmentation",
        "semantic_segmentation",
        "classification",
    }


def test_every_profile_names_entries_of_its_tasks() -> None:
    for path in (CATALOG.parent / "profiles").glob("*.yaml"):
        for task, name in load_profile(path.stem).tasks.items():
            assert load_entry(name).task == task, f"{path.name}: {name}"


def test_models_of_one_data_set_agree_on_its_labels() -> None:
    coco = load_labels("coco80")
    for entry in load_entries():
        if isinstance(entry.head, YoloHead | TwoStageHead) and "coco" in entry.description.lower():
            assert entry.labels == coco, entry.name


def test_only_a_known_digest_lets_weights_be_downloaded() -> None:
    # What no public source states is left out rather than invented.
    without = {entry.name for entry in load_entries() if entry.source.url and entry.source.digest is None}
    assert without == {
        "bisenetv1_cityscapes",
        "faster_rcnn_r50_fpn_3x_detectron2",
        "mask_rcnn_r50_fpn_3x_detectron2",
    }


def test_torchvision_prefixes_are_those_of_the_file_names() -> None:
    for entry in load_entries():
        if entry.source.sha256_prefix:
            assert f"-{entry.source.sha256_prefix}.pth" in entry.source.file


def test_the_minimal_entry_is_complete(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL)
    entry = load_entry("some_detector", tmp_path)
    assert entry.labels == ("cat", "dog")
    assert entry.pixels.scale == pytest.approx(1 / 255)
    assert entry_names(tmp_path) == ("some_detector",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour: no such key"),
        ({"image": {"resize": "letterbox", "width": 64, "height": 64, "depth": 3}}, "image.depth: no such key"),
        ({"name": "other"}, "name: expected 'some_detector'"),
        ({"task": "tracking"}, "task: Input should be 'detection'"),
        ({"image": {"resize": "letterbox", "width": 64}}, "image: resize 'letterbox' needs width and height alone"),
        (
            {"image": {"resize": "shortest_edge", "shortest_edge": 800, "longest_edge": 1333, "width": 1}},
            "image: resize 'shortest_edge' needs shortest_edge and longest_edge alone",
        ),
        ({"labels": []}, "labels: "),
        ({"labels": ["cat", "cat"]}, "labels: each may stand once, found twice: cat"),
        ({"labels": "../../profiles/demo"}, "labels: expected a list or one of camvid11"),
        ({"labels": "coco" * 1000}, "labels: expected a list or one of camvid11"),
        (
            {"labels": "coco81"},
            "labels: expected a list or one of camvid11, cityscapes19, coco80, demo, demo_things, imagenet1000",
        ),
        ({"head": {"kind": "semantic"}}, "head: task detection needs kind two_stage or yolo, found semantic"),
        ({"head": {"kind": "yolo", "layout": "yolov8", "mask_size": 28}}, "a size for instance_segmentation alone"),
        ({"head": {"kind": "yolo", "layout": "yolov4"}}, "head.yolo.layout: Input should be 'yolov8'"),
        ({"source": {"file": "a/b.onnx"}}, "source.file: expected a file name without folders, found 'a/b.onnx'"),
        ({"source": {"file": "b.onnx", "sha256": "12"}}, "source.sha256: "),
        ({"source": {"file": "b.onnx", "sha256": "0" * 64, "sha256_prefix": "0" * 8}}, "found both"),
        ({"source": {"file": "b.onnx", "url": "http://example.org/b.onnx"}}, "source.url: "),
    ],
)
def test_a_wrong_entry_is_refused_with_file_and_key(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write(tmp_path, MINIMAL | change)
    with pytest.raises(CatalogError) as caught:
        load_entry("some_detector", tmp_path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL | {"licence": None, "colour": "red"})
    with pytest.raises(CatalogError, match=r"(?s)licence.*colour"):
        load_entry("some_detector", tmp_path)


def test_a_missing_entry_or_profile_lists_those_that_there_are(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL)
    with pytest.raises(CatalogError, match="expected an entry of some_detector, found 'nothing'"):
        load_entry("nothing", tmp_path)
    with pytest.raises(CatalogError, match=r"expected a profile of .*street.*, found 'nothing'"):
        load_profile("nothing")


def test_lines_that_double_what_the_line_before_holds_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    (tmp_path / "some_detector.yaml").write_text("\n".join(lines))
    with pytest.raises(CatalogError, match=r"some_detector\.yaml: line 2: expected no alias, found one"):
        load_entry("some_detector", tmp_path)


def test_more_levels_or_bytes_than_anybody_writes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some_detector.yaml"
    for text, words in (("[" * 1_000_000, "at most 32 levels"), ("#" * (MAX_BYTES + 1), f"at most {MAX_BYTES} bytes")):
        path.write_text(text)
        with pytest.raises(CatalogError, match=words):
            load_entry("some_detector", tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"- a\n- b\n", b"name: [", b"just words", b"\xff", b"name: !!int a", b"name: !!timestamp a", b"[" * 5000],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "some_detector.yaml").write_bytes(text)
    with pytest.raises(CatalogError, match=r"some_detector\.yaml"):
        load_entry("some_detector", tmp_path)
