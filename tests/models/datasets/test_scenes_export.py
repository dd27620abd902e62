import json
from pathlib import Path

import av
import numpy as np
import pytest
from pycocotools.coco import COCO
from typer.testing import CliRunner

from models.datasets.cli import app
from models.datasets.coco import CocoInstancesDataset, CocoPanopticDataset
from models.datasets.sample import Sample
from models.datasets.scenes import CATEGORIES, SceneSequence
from models.datasets.scenes.export import export_coco, export_film

# pycocotools 2.0.11 hands NumPy 2 an array protocol that it calls old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (320, 240)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sample]]:
    """Three frames of each world in a folder, and the samples that went into it."""
    folder = tmp_path_factory.mktemp("scenes")
    sequences = [SceneSequence("street", 2, 3, SIZE), SceneSequence("line", 3, 3, SIZE)]
    return folder, list(export_coco(sequences, folder))


def test_the_panoptic_export_comes_back_as_it_was(exported: tuple[Path, list[Sample]]) -> None:
    folder, samples = exported
    dataset = CocoPanopticDataset(folder / "panoptic.json", folder / "panoptic", folder / "images")
    assert dataset.categories == CATEGORIES
    assert len(dataset) == len(samples) == 6
    for index, written in enumerate(samples):
        read = dataset[index]
        assert written.panoptic is not None
        assert written.semantic is not None
        np.testing.assert_array_equal(read.panoptic, written.panoptic)
        np.testing.assert_array_equal(read.semantic, written.semantic)
        assert read.segments == written.segments
        assert (read.file_name, read.video, read.frame_index) == (written.file_name, written.video, written.frame_index)
        assert np.abs(read.image.astype(int) - written.image).mean() < 4  # JPEG


def test_the_instances_export_comes_back_as_it_was(exported: tuple[Path, list[Sample]]) -> None:
    folder, samples = exported
    dataset = CocoInstancesDataset(folder / "instances.json", folder / "images")
    for index, written in enumerate(samples):
        read = dataset[index]
        assert len(read.segments) == len(written.things)
        for ours, theirs in zip(read.segments, written.things, strict=True):
            assert (ours.category, ours.box, ours.area) == (theirs.category, theirs.box, theirs.area)
            assert (ours.track_id, ours.attributes) == (theirs.track_id, theirs.attributes)
            np.testing.assert_array_equal(read.mask(ours), written.mask(theirs))


def test_pycocotools_reads_the_same_masks(
    exported: tuple[Path, list[Sample]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, samples = exported
    coco = COCO(str(folder / "instances.json"))
    capsys.readouterr()
    for image_id, written in enumerate(samples, start=1):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        assert [coco.cats[entry["category_id"]]["name"] for entry in annotations] == [
            segment.category for segment in written.things
        ]
        for entry, segment in zip(annotations, written.things, strict=True):
            np.testing.assert_array_equal(coco.annToMask(entry).astype(bool), written.mask(segment))


def test_the_video_export_tells_objects_apart_over_all_videos(exported: tuple[Path, list[Sample]]) -> None:
    folder, samples = exported
    video = json.loads((folder / "video.json").read_text())
    assert [(entry["name"], entry["length"]) for entry in video["videos"]] == [("street-000002", 3), ("line-000003", 3)]
    assert [entry["frame_index"] for entry in video["images"]] == [0, 1, 2, 0, 1, 2]
    tracks = {(entry["video_id"], entry["track_id"]) for entry in video["annotations"]}
    expected = {(1 + (number >= 3), thing.track_id) for number, sample in enumerate(samples) for thing in sample.things}
    assert tracks == expected
    assert len({entry["instance_id"] for entry in video["annotations"]}) == len(tracks)


def test_a_film_holds_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "line.mp4"
    samples = list(export_film(SceneSequence("line", 0, 6, SIZE), path))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 25
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == 6
    for frame, sample in zip(decoded, samples, strict=True):
        assert np.abs(frame.astype(int) - sample.image).mean() < 8


def test_a_film_of_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even width and height, found 321 x 240"):
        next(export_film(SceneSequence("line", 0, 1, (321, 240)), tmp_path / "odd.mp4"))


def test_the_command_writes_frames_and_labels(tmp_path: Path) -> None:
    arguments = ["scenes", str(tmp_path / "out"), "--world", "line", "--length", "2", "--width", "160"]
    result = CliRunner().invoke(app, [*arguments, "--height", "120", "--sequences", "2", "--seed", "8"])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out" / "images").rglob("*.jpg"))) == 4
    assert {path.name for path in (tmp_path / "out" / "images").iterdir()} == {"line-000008", "line-000009"}


def test_the_command_explains_itself_and_refuses_two_sequences_for_a_film(tmp_path: Path) -> None:
    assert "film" in CliRunner().invoke(app, ["scenes", "--help"]).output
    result = CliRunner().invoke(app, ["scenes", str(tmp_path / "out.mp4"), "--sequences", "2"])
    assert result.exit_code == 2
    assert "one sequence" in result.output
