from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from models.datasets.scenes.categories import CATEGORIES, PARCELS
from services.gateway.taxonomy import TAXONOMY_FOLDER, Taxonomy, TaxonomyError
from tests.services.gateway.coco_truth import data

needs_data = pytest.mark.skipif(data() is None, reason="PERCEPTION_DATA is not set")

NOT_ON_THE_STREET = """airplane, boat, elephant, bear, zebra, giraffe, tie, frisbee, skis, snowboard, sports ball, kite,
baseball bat, baseball glove, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana,
apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, bed, dining table, toilet, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
teddy bear, hair drier, toothbrush"""


def read(*path: str) -> Any:
    folder = data()
    assert folder is not None
    return json.loads(folder.joinpath(*path).read_text())


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.replace("\n", " ").split(","))


@pytest.mark.parametrize(
    ("name", "things", "stuff"),
    [("demo", 10, 10), ("coco", 80, 53), ("cityscapes", 8, 11), ("street", 24, 10), ("camvid", 3, 8)],
)
def test_bundled_taxonomies_load(name, things, stuff):
    taxonomy = Taxonomy.load(name)
    assert taxonomy.name == name
    assert sum(category.is_thing for category in taxonomy.categories) == things
    assert sum(not category.is_thing for category in taxonomy.categories) == stuff
    assert len({category.color for category in taxonomy.categories}) == things + stuff
    for category in taxonomy.categories:
        assert category.instance_labels or category.semantic_labels


def test_every_bundled_taxonomy_is_tested():
    assert {file.stem for file in TAXONOMY_FOLDER.glob("*.yaml")} == {"demo", "coco", "cityscapes", "street", "camvid"}


def test_demo_is_the_procedural_scenes():
    taxonomy = Taxonomy.load("demo")
    assert [(c.name, c.is_thing, c.color) for c in taxonomy.categories] == [
        (c.name, c.is_thing, c.colour) for c in CATEGORIES
    ]
    labels = [category.name for category in CATEGORIES]
    assert taxonomy.unmapped(labels, "semantic") == ()
    assert taxonomy.unmapped([c.name for c in CATEGORIES if c.is_thing], "instance") == ()
    (condition,) = taxonomy.attributes
    assert (condition.name, condition.categories, condition.labels) == ("condition", PARCELS, ("intact", "damaged"))


@needs_data
def test_official_names_and_colours():
    coco = read("labels", "coco_panoptic", "panoptic_coco_categories.json")
    assert [(c.name, c.is_thing, c.color) for c in Taxonomy.load("coco").categories] == [
        (c["name"], bool(c["isthing"]), tuple(c["color"])) for c in coco
    ]
    cityscapes = read("labels", "cityscapes", "classes.json")["classes"]
    assert [(c.name, c.is_thing, c.color) for c in Taxonomy.load("cityscapes").categories] == [
        (c["name"], c["isthing"], tuple(c["rgb"])) for c in cityscapes
    ]


@needs_data
@pytest.mark.parametrize(
    ("taxonomy", "unmapped"),
    [
        ("coco", ()),
        ("street", names(NOT_ON_THE_STREET)),
    ],
)
def test_coco_detection_labels_are_mapped(taxonomy, unmapped):
    labels = read("weights", "coco80_classes.json")
    assert Taxonomy.load(taxonomy).unmapped(labels, "instance") == unmapped


@needs_data
def test_cityscapes_takes_cocos_vehicles_and_persons():
    labels = read("weights", "coco80_classes.json")
    unmapped = Taxonomy.load("cityscapes").unmapped(labels, "instance")
    assert set(labels) - set(unmapped) == {"person", "bicycle", "car", "motorcycle", "bus", "train", "truck"}


@needs_data
@pytest.mark.parametrize("taxonomy", ["cityscapes", "street"])
def test_cityscapes_semantic_labels_are_mapped(taxonomy):
    labels = [c["name"] for c in read("labels", "cityscapes", "classes.json")["classes"]]
    assert Taxonomy.load(taxonomy).unmapped(labels, "semantic") == ()


@needs_data
@pytest.mark.parametrize("taxonomy", ["camvid", "street"])
def test_camvid_semantic_labels_are_mapped(taxonomy):
    labels = [c["name"] for c in read("labels", "camvid", "classes.json")["classes"]]
    assert Taxonomy.load(taxonomy).unmapped(labels, "semantic") == ("Unlabelled",)


def test_lookups():
    street = Taxonomy.load("street")
    assert street.category(street.semantic_ids["rider"]).name == "person"
    table = street.semantic_table(("Sky", "nothing", "Road"))
    assert (table.dtype, table.shape) == (np.uint8, (256,))
    assert [street.category(int(table[index])).name for index in (0, 2)] == ["sky", "road"]
    assert np.count_nonzero(table) == 2
    for wrong in (0, -1, len(street.categories) + 1):
        with pytest.raises(IndexError, match=r"category id: expected 1\.\.34"):
            street.category(wrong)


def good() -> dict[str, Any]:
    return {
        "name": "small",
        "categories": [
            {"name": "car", "is_thing": True, "color": [0, 0, 255], "instance_labels": ["car"]},
            {"name": "road", "is_thing": False, "color": [9, 9, 9], "semantic_labels": ["road"]},
        ],
        "attributes": [{"name": "kind", "categories": ["car"]}],
    }


def write(folder: Path, content: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_any_file_can_be_loaded_by_its_path(tmp_path):
    assert [c.name for c in Taxonomy.load(write(tmp_path, good())).categories] == ["car", "road"]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (("categories", 0, "colour"), [1, 2, 3], r"categories\.0\.colour: Extra inputs are not permitted"),
        (("categories", 0, "color"), [0, 0, 256], r"categories\.0\.color\.2: .*less than or equal to 255, found 256"),
        (("categories", 0, "color"), [0, 0], r"categories\.0\.color\.2: Field required"),
        (("categories", 0, "color"), "blue", r"categories\.0\.color: .*found 'blue'"),
        (("categories", 0, "color"), [0, 0, True], r"categories\.0\.color\.2: .*found True"),
        (("categories", 0, "is_thing"), "yes", r"categories\.0\.is_thing: .*found 'yes'"),
        (("categories", 0, "name"), "", r"categories\.0\.name: .*found ''"),
        (("categories", 1, "name"), "car", "categories: expected every name once, found more than once: car"),
        (("categories", 1, "instance_labels"), ["truck"], r"categories\.1: .*expected none for stuff 'road'"),
        (("categories", 0, "instance_labels"), ["a", "a"], "every instance label once, found more than once: a"),
        (("categories", 0, "semantic_labels"), ["road"], "every semantic label once, found more than once: road"),
        (("attributes", 0, "categories"), ["bus"], r"'kind' expected names of categories, found \['bus'\]"),
        (("attributes", 0, "categories"), [], r"attributes\.0\.categories: "),
        (("attributes", 0, "minimum_score"), 2, r"attributes\.0\.minimum_score: .*found 2"),
        (("categories",), [], r"categories: .*at least 1 item"),
        (("name",), None, r"name: .*found None"),
    ],
)
def test_a_broken_file_is_refused_with_file_key_and_reason(tmp_path, key, value, reason):
    content: Any = good()
    *parents, last = key
    place = content
    for step in parents:
        place = place[step]
    place[last] = value
    path = write(tmp_path, content)
    with pytest.raises(TaxonomyError, match=reason) as refused:
        Taxonomy.load(path)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", ["", "[1, 2]", "name: [", "name: \x00"])
def test_what_is_no_taxonomy_is_refused(tmp_path, content):
    with pytest.raises(TaxonomyError, match=r"small\.yaml: "):
        Taxonomy.load(write(tmp_path, content))


def test_a_missing_file_is_refused_with_the_names_that_there_are():
    with pytest.raises(
        TaxonomyError, match=r"nowhere\.yaml: expected a taxonomy file or one of camvid, cityscapes, coco, demo"
    ):
        Taxonomy.load("nowhere")
