"""A whole system of small models, judged against truth that is partly wrong on purpose: every figure is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.datasets.sample import Category, Dataset, DatasetError, Sample, Segment
from models.evaluation.plan import Plan, load_plan
from models.evaluation.report import write_report
from models.evaluation.result import Evaluation, EvaluationError
from models.evaluation.run import run_plan
from models.evaluation.subjects import tracking
from tests.support.contract_models import LABELS, TASKS, picture, write_repository
from tests.support.stack import TAXONOMY, Stack

pytestmark = pytest.mark.integration

HEIGHT, WIDTH = 48, 64
PAINTED = (10, 8, 40, 30)
# The last picture's truth is only the upper 16 of the 22 rows: an IoU of 8 / 11, which reaches 5 of 10 thresholds.
SHORTER = (10, 8, 40, 24)
IOU = 8 / 11
CATEGORIES = (
    Category("dark", False, (40, 40, 40)),
    Category("bright", False, (220, 220, 220)),
    Category("red", True, (255, 0, 0)),
    Category("green", True, (0, 255, 0)),
    Category("blue", True, (0, 0, 255)),
)
# Colour as painted, category and attribute as the truth has them, the truth's box.
PICTURES = (
    ((240, 30, 30), "red", "red", PAINTED),
    ((30, 230, 30), "green", "red", PAINTED),
    ((30, 210, 30), "blue", "green", PAINTED),
    ((200, 30, 30), "red", "red", SHORTER),
)


class Rectangles:
    name = "rectangles"
    categories = CATEGORIES

    def __len__(self) -> int:
        return len(PICTURES)

    def __getitem__(self, index: int) -> Sample:
        colour, category, tint, (x0, y0, x1, y1) = PICTURES[index]
        panoptic = np.full((HEIGHT, WIDTH), 1, np.int32)
        panoptic[y0:y1, x0:x1] = 900_000
        area = (x1 - x0) * (y1 - y0)
        return Sample(
            image=picture(HEIGHT, WIDTH, PAINTED, colour),
            file_name=f"shelf/{index}.png",
            image_id=index + 50,
            panoptic=panoptic,
            segments=(
                Segment(1, "dark", False, (0, 0, WIDTH, HEIGHT), HEIGHT * WIDTH - area),
                Segment(900_000, category, True, (x0, y0, x1, y1), area, attributes={"tint": tint}),
            ),
            semantic=(panoptic > 1).astype(np.uint8),
        )


class Films:
    """A red thing on its way to the right, twice; in the second film it is green in truth."""

    name = "films"
    categories = CATEGORIES
    frames = 6

    def __len__(self) -> int:
        return 2 * self.frames

    def __getitem__(self, index: int) -> Sample:
        film, frame = divmod(index, self.frames)
        box = (4 * frame, 8, 4 * frame + 30, 30)
        return Sample(
            image=picture(HEIGHT, WIDTH, box, (240, 30, 30)),
            file_name=f"film-{film}/{frame}.png",
            image_id=index + 1,
            segments=(Segment(9, ("red", "green")[film], True, box, 660, track_id=70),),
            video=f"film-{film}",
            frame_index=frame,
            seconds=frame / 25,
        )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("small_system")
    (folder / "contract.yaml").write_text(TAXONOMY)
    repository = write_repository(folder / "repository")
    with Stack(repository, str(folder / "contract.yaml"), "onnxruntime", folder / "run") as running:
        yield running


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("plans")
    steps = "".join(f"  - {{subject: {task}, dataset: rectangles}}\n" for task in TASKS)
    system = (
        "  - {subject: system, dataset: rectangles, expectations: ["
        "{metric: PQ, value: 0.6, tolerance: 0.05}, {metric: attribute_accuracy, value: 0.9, tolerance: 0.1}]}\n"
    )
    (folder / "small.yaml").write_text(f"name: small\nsteps:\n{steps}{system}")
    return load_plan("small", folder)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Entries of the small models; the semantic one is expected to do better than it does."""
    folder = tmp_path_factory.mktemp("catalog")
    heads = {
        "detection": "{kind: two_stage}",
        "instance_segmentation": "{kind: two_stage, mask_size: 28}",
        "semantic_segmentation": "{kind: semantic}",
        "classification": "{kind: classifier, output: logits}",
    }
    metrics = {
        "detection": "{dataset: rectangles, metric: box_mAP, value: 0.6, tolerance: 0.05}",
        "semantic_segmentation": "{dataset: rectangles, metric: mIoU, value: 0.99, tolerance: 0.001}",
    }
    for task in TASKS:
        (folder / f"contract_{task}.yaml").write_text(
            f"{{name: contract_{task}, description: small, task: {task}, adapter: onnx, licence: MIT,"
            f" labels: [{', '.join(LABELS[task])}], image: {{resize: stretch, width: 64, height: 48}},"
            f" head: {heads[task]}, source: {{file: small.onnx}}, metrics: [{metrics.get(task, '')}]}}"
        )
    return folder


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def evaluations(stack: Stack, plan: Plan, catalog: Path, output: Path) -> dict[str, Evaluation]:
    addresses = {task: [f"127.0.0.1:{stack.ports.task(task)}"] for task in TASKS} | {"system": [stack.address]}
    (output / "worst").mkdir()
    (output / "worst" / "left-by-an-earlier-run.jpg").write_bytes(b"")
    told: list[tuple[str, int, int]] = []

    def progress(title: str, done: int, total: int) -> None:
        told.append((title, done, total))

    found = run_plan(plan, addresses, output, progress, catalog=catalog, datasets=lambda name: Rectangles())
    assert told[:5] == [("detection contract_detection", done, 4) for done in range(5)]
    assert [each.dataset for each in found] == ["rectangles"] * 5
    write_report(plan.name, found, output)
    return {each.subject: each for each in found}


# Red: both found, one of them too large. Green: found, after that a false one. Blue: missed.
RED_AP = (5 + 5 * 51 / 101) / 10
MEAN_AP = {"mAP": (RED_AP + 1 + 0) / 3, "mAP50": (1 + 1 + 0) / 3, "mAP75": (51 / 101 + 1 + 0) / 3}


@pytest.mark.parametrize(("task", "kinds"), [("detection", ["box"]), ("instance_segmentation", ["box", "mask"])])
def test_objects(evaluations: dict[str, Evaluation], task: str, kinds: list[str]) -> None:
    findings = evaluations[task].findings
    assert findings.metrics == pytest.approx({f"{kind}_{name}": MEAN_AP[name] for kind in kinds for name in MEAN_AP})
    by_category = {"red": RED_AP, "green": 1, "blue": 0}
    assert findings.by_category.keys() == by_category.keys()
    for label, value in by_category.items():
        assert findings.by_category[label] == pytest.approx({f"{kind}_AP": value for kind in kinds})
    assert findings.frame_scores == {50: 1, 51: 1, 52: 0, 53: 1}
    assert findings.notes == ("3 of the data set's 3 kinds of things are known to the model",)


def test_semantic_segmentation(evaluations: dict[str, Evaluation]) -> None:
    bright, found_bright, pixels = 3 * 660 + 480, 4 * 660, 4 * HEIGHT * WIDTH
    iou = {"bright": bright / found_bright, "dark": (pixels - found_bright) / (pixels - bright)}
    findings = evaluations["semantic_segmentation"].findings
    assert findings.metrics["mIoU"] == pytest.approx((iou["bright"] + iou["dark"]) / 2)
    assert findings.metrics["pixel_accuracy"] == pytest.approx(1 - 180 / pixels)
    assert findings.by_category == {label: {"IoU": pytest.approx(value)} for label, value in iou.items()}
    assert min(findings.frame_scores, key=findings.frame_scores.__getitem__) == 53
    assert findings.notes == ("2 of the data set's 5 classes are known to the model",)


def test_classification(evaluations: dict[str, Evaluation]) -> None:
    findings = evaluations["classification"].findings
    assert findings.metrics == {"top1": 3 / 4}
    assert findings.by_category == {"red": {"top1": 1}, "green": {"top1": 0}, "blue": {"top1": 1}}
    assert findings.frame_scores == {50: 1, 51: 0, 52: 1, 53: 1}
    assert findings.confusion is not None
    assert (findings.confusion.labels, findings.confusion.counts.tolist()) == (
        ("red", "green"),
        [[2, 1, 0], [0, 1, 0]],
    )


def test_system(evaluations: dict[str, Evaluation]) -> None:
    findings = evaluations["system"].findings
    dark_iou = (HEIGHT * WIDTH - 660) / (HEIGHT * WIDTH - 480)
    quality = {"red": (1 + IOU) / 2, "green": 1 / 1.5, "blue": 0, "dark": (3 + dark_iou) / 4}
    assert {label: values["PQ"] for label, values in findings.by_category.items()} == pytest.approx(quality)
    assert findings.metrics["PQ_things"] == pytest.approx((quality["red"] + quality["green"] + quality["blue"]) / 3)
    assert findings.metrics["PQ_stuff"] == pytest.approx(quality["dark"])
    assert findings.metrics["PQ"] == pytest.approx(sum(quality.values()) / 4)
    assert findings.metrics["SQ_things"] == pytest.approx(((1 + IOU) / 2 + 1 + 0) / 3)
    assert findings.metrics["RQ_things"] == pytest.approx((1 + 1 / 1.5 + 0) / 3)
    # Of the three objects that were found, one is green where the truth says red.
    assert findings.metrics["attribute_accuracy"] == pytest.approx(2 / 3)
    assert findings.notes == ("judged on 5 categories that data set and taxonomy share: 3 things, 2 stuff",)


def test_worse_than_expected_is_named(evaluations: dict[str, Evaluation]) -> None:
    failed = {
        subject: [v.expectation.metric for v in each.verdicts if not v.passed] for subject, each in evaluations.items()
    }
    assert failed == {
        "detection": [],
        "instance_segmentation": [],
        "semantic_segmentation": ["mIoU"],
        "classification": [],
        "system": ["attribute_accuracy"],
    }


def test_what_is_written(evaluations: dict[str, Evaluation], output: Path) -> None:
    written = json.loads((output / "metrics.json").read_text())
    assert written["passed"] is False
    assert len(written["shortfalls"]) == 2
    assert [each["metrics"] for each in written["evaluations"]] == [
        {name: pytest.approx(value, abs=1e-6) for name, value in each.findings.metrics.items()}
        for each in evaluations.values()
    ]
    markdown = (output / "report.md").read_text()
    mean_iou = evaluations["semantic_segmentation"].findings.metrics["mIoU"]
    row = f"| semantic_segmentation (contract_semantic_segmentation) | rectangles | 4 | mIoU | {mean_iou:.4f} "
    assert f"{row}| >= 0.9890 | worse |" in markdown
    for plot in ("confusion.png", "precision_recall.png"):
        assert f"({plot})" in markdown
        assert cv2.imread(str(output / plot)) is not None


def test_the_worst_frames_come_first(evaluations: dict[str, Evaluation], output: Path) -> None:
    names = sorted(path.name for path in (output / "worst").iterdir())
    assert len(names) == 5 * len(PICTURES)
    assert "detection-contract_detection-01-shelf-2.jpg" in names
    assert "classification-contract_classification-01-shelf-1.jpg" in names
    assert "semantic_segmentation-contract_semantic_segmentation-01-shelf-3.jpg" in names
    assert "system-01-shelf-2.jpg" in names
    overlay = cv2.imread(str(output / "worst" / "system-01-shelf-2.jpg"))
    assert overlay is not None
    assert overlay.shape == (HEIGHT + 22, 2 * WIDTH + 4, 3)


def _tracking(stack: Stack, dataset: Dataset, output: Path) -> list[Evaluation]:
    expectations = ({"metric": "HOTA", "value": 0.5, "tolerance": 0.03},)
    step = {"subject": "tracking", "dataset": dataset.name, "expectations": expectations}
    plan = Plan.model_validate({"name": "small", "steps": (step,)})
    return run_plan(plan, {"tracking": [stack.address]}, output, lambda *_: None, datasets=lambda name: dataset)


def test_tracking(stack: Stack, tmp_path: Path) -> None:
    found = _tracking(stack, Films(), tmp_path)
    write_report("small", found, tmp_path)
    findings = found[0].findings
    # A thing has a track from its second frame on. Of twelve true boxes five are found, and five others are wrong.
    detection, association = 5 / (5 + 7 + 5), 5 / 6
    assert findings.metrics == pytest.approx(
        {
            "HOTA": (detection * association) ** 0.5,
            "DetA": detection,
            "AssA": association,
            "IDF1": 2 * 5 / (12 + 10),
            # A thing alone is the first of its frame in each of them, also without tracker.
            "HOTA_without_tracker": (1 / 3) ** 0.5,
            "DetA_without_tracker": 1 / 3,
            "AssA_without_tracker": 1,
            "IDF1_without_tracker": 1 / 2,
        }
    )
    assert findings.counts == {"identity_switches": 0, "identity_switches_without_tracker": 0}
    # What was found in the second film is wrong for red, too.
    assert findings.by_category["red"]["HOTA"] == pytest.approx((5 / (5 + 1 + 5) * association) ** 0.5)
    assert findings.by_category["green"]["HOTA"] == 0
    assert findings.frame_scores == {**dict.fromkeys(range(2, 7), 1), **dict.fromkeys(range(8, 13), 0)}
    assert findings.notes == ("2 things in 2 videos, seen 12 times; 12 times a thing was found, 10 times with a track",)
    assert [film.name for film in findings.timelines] == ["film-0", "film-1"]
    assert [verdict.passed for verdict in found[0].verdicts] == [True]

    written = json.loads((tmp_path / "metrics.json").read_text())["evaluations"][0]
    assert written["metrics"]["HOTA_without_tracker"] == pytest.approx((1 / 3) ** 0.5, abs=1e-6)
    assert written["counts"] == findings.counts
    markdown = (tmp_path / "report.md").read_text()
    assert "| tracking | films | 12 | identity_switches | 0 | - | - |" in markdown
    assert "(tracks.png)" in markdown
    assert cv2.imread(str(tmp_path / "tracks.png")) is not None
    assert (tmp_path / "worst" / "tracking-01-film-1-1.jpg").is_file()


def test_frames_that_the_gateway_does_not_perceive_are_told_and_not_judged(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "CALL_SECONDS", 0.001)  # nothing can be perceived in that
    reason = "12 of 12 frames were not perceived as they should be, film-0/0.png: (dropped, too_old|DEADLINE_EXCEEDED)"
    with pytest.raises(EvaluationError, match=reason):
        _tracking(stack, Films(), tmp_path)


def test_tracking_is_measured_on_videos_alone(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'shelf/0.png': expected a frame of a video, found a picture"):
        _tracking(stack, Rectangles(), tmp_path)


def test_a_service_of_another_task_is_refused(stack: Stack, plan: Plan, catalog: Path, tmp_path: Path) -> None:
    addresses = {"detection": [f"127.0.0.1:{stack.ports.task('classification')}"]}
    with pytest.raises(EvaluationError, match="expected a service for detection, found one for classification"):
        run_plan(plan, addresses, tmp_path, lambda *_: None, catalog=catalog, datasets=lambda name: Rectangles())


def test_a_task_that_is_down_is_no_matter_of_quality(stack: Stack, plan: Plan, catalog: Path, tmp_path: Path) -> None:
    """Last: the system would answer without the task, and be measured as if its models were bad."""
    stack.kill("classification")
    with pytest.raises(EvaluationError, match="classification"):
        run_plan(
            plan,
            {"system": [stack.address]},
            tmp_path,
            lambda *_: None,
            catalog=catalog,
            datasets=lambda name: Rectangles(),
        )
