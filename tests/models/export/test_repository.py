from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from models.catalog.schema import Entry, Profile
from models.export import repository
from models.export.contract import check_contract
from models.export.fp16_storage import store_weights_as_fp16
from models.export.graft import graft
from models.export.repository import build_repository, write_model
from models.export.weights import file_sha256
from tests.models.export.support import entry, run

LABELS = ('quoted "name"', "back\\slash", "naïve", "plain")


def classifier(path: Path, seed: int = 0) -> Path:
    """Write a small network with weights: [N,3,8,8] -> four logits."""
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 20]> net (float[N,3,8,8] x) => (float[N,4] y) {
            flat = Flatten(x)
            y = MatMul(flat, w)
        }"""
    )
    weights: NDArray[np.float32] = np.random.default_rng(seed).normal(0, 0.1, (192, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, path)
    return path


def classifier_entry(**fields: object) -> Entry:
    return entry(
        **{
            "task": "classification",
            "image": {"resize": "stretch", "width": 8, "height": 8},
            "labels": LABELS,
            "head": {"kind": "classifier", "output": "logits"},
            "licence": "MIT",
        }
        | fields
    )


def parsed(config: Path):
    model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return text_format.Parse(config.read_text(encoding="utf-8"), model_config.ModelConfig())


def test_a_model_folder_is_what_triton_reads(tmp_path: Path) -> None:
    weights = classifier(tmp_path / "model.onnx")
    assert write_model(classifier_entry(), weights, tmp_path / "repository" / "classification")
    folder = tmp_path / "repository" / "classification"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "config.pbtxt",
        "1/model.onnx",
    }
    config = parsed(folder / "config.pbtxt")
    assert (config.name, config.backend, config.default_model_filename) == (
        "classification",
        "onnxruntime",
        "model.onnx",
    )
    assert config.max_batch_size == 8
    assert [(x.name, x.data_type, list(x.dims)) for x in config.input] == [("image", 2, [8, 8, 3])]  # 2: UINT8
    assert [(x.name, x.data_type, list(x.dims)) for x in config.output] == [("probabilities", 11, [4])]  # 11: FP32
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    assert config.dynamic_batching.priority_levels == 3
    assert config.dynamic_batching.default_priority_level == 2
    policy = config.dynamic_batching.default_queue_policy
    assert policy.allow_timeout_override
    assert policy.default_timeout_microseconds > 0  # or Triton never looks at a request's own timeout
    assert config.version_policy.latest.num_versions == 1
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, 0)]  # 0: KIND_AUTO
    warmup = config.model_warmup[0]
    assert (warmup.batch_size, list(warmup.inputs["image"].dims)) == (1, [8, 8, 3])
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    import json

    assert tuple(json.loads(parameters["labels"])) == LABELS
    assert parameters["task"] == "classification"
    assert parameters["resize"] == "stretch"
    assert parameters["catalog_entry"] == "under_test"
    assert parameters["weights_sha256"] == file_sha256(weights)
    assert parameters["model_sha256"] == file_sha256(folder / "1" / "model.onnx")
    check_contract(folder / "1" / "model.onnx", "classification")


def test_a_model_for_openvino_is_what_triton_s_own_backend_of_that_name_takes(tmp_path: Path) -> None:
    weights, folder = classifier(tmp_path / "model.onnx"), tmp_path / "classification"
    assert write_model(classifier_entry(), weights, folder)
    assert write_model(classifier_entry(), weights, folder, "openvino"), "another backend"
    assert not write_model(classifier_entry(), weights, folder, "openvino")
    config = parsed(folder / "config.pbtxt")
    assert (config.backend, config.max_batch_size) == ("openvino", 8)
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, 2)]  # 2: KIND_CPU
    assert config.parameters["ENABLE_BATCH_PADDING"].string_value == "YES"


def test_the_written_graph_is_the_grafted_one_with_fp16_weights(tmp_path: Path) -> None:
    weights = classifier(tmp_path / "model.onnx")
    write_model(classifier_entry(), weights, tmp_path / "classification")
    image = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    written = run(tmp_path / "classification" / "1" / "model.onnx", image=image)["probabilities"]
    model = graft(onnx.load(weights), classifier_entry())
    np.testing.assert_allclose(written, run(model, image=image)["probabilities"], atol=1e-3)
    store_weights_as_fp16(model)
    np.testing.assert_array_equal(written, run(model, image=image)["probabilities"])


@pytest.mark.parametrize("task", ["letterbox", "shortest_edge"])
def test_the_resize_rule_stands_in_the_configuration(tmp_path: Path, task: str) -> None:
    from models.export.config_pbtxt import config_text

    image = {
        "letterbox": {"width": 64, "height": 48, "pad_value": 7},
        "shortest_edge": {"shortest_edge": 60, "longest_edge": 90},
    }
    dims = [48, 64, 3] if task == "letterbox" else ["height", "width", 3]
    fields = {"image": {"resize": task} | image[task], "head": {"kind": "two_stage", "mask_size": 28}}
    tensors = [
        onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, dims),
        onnx.helper.make_tensor_value_info("num_detections", onnx.TensorProto.INT32, [1]),
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "two_stage", tensors[:1], tensors[1:]))
    path = tmp_path / "config.pbtxt"
    text = config_text(entry(task="instance_segmentation", **fields), model, "onnxruntime", {})
    path.write_text(text, encoding="utf-8")
    config = parsed(path)
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    assert config.max_batch_size == 0
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.allow_timeout_override) == (64, True)
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert parameters["mask_kind"] == "box"
    if task == "letterbox":
        assert parameters["pad_value"] == "7"
        assert list(config.input[0].dims) == [48, 64, 3]
    else:
        assert (parameters["shortest_edge"], parameters["longest_edge"]) == ("60", "90")
        assert list(config.input[0].dims) == [-1, -1, 3]
        assert list(config.model_warmup[0].inputs["image"].dims) == [60, 60, 3]


def test_a_model_is_written_again_only_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, folder = classifier(tmp_path / "model.onnx"), tmp_path / "classification"
    graph = folder / "1" / "model.onnx"
    assert write_model(classifier_entry(), weights, folder)
    before = graph.stat().st_mtime_ns
    assert not write_model(classifier_entry(), weights, folder)
    assert graph.stat().st_mtime_ns == before
    assert write_model(classifier_entry(labels=("a", "b", "c", "d")), weights, folder), "another entry"
    assert write_model(classifier_entry(), classifier(tmp_path / "other.onnx", seed=1), folder), "other weights"
    assert write_model(classifier_entry(), weights, folder), "the first weights again"
    graph.write_bytes(b"damaged")
    assert write_model(classifier_entry(), weights, folder), "a damaged graph"
    (folder / "config.pbtxt").unlink()
    assert write_model(classifier_entry(), weights, folder), "no configuration"
    monkeypatch.setattr(repository.onnx, "__version__", "99")
    assert write_model(classifier_entry(), weights, folder), "another exporter"
    assert sorted(path.name for path in folder.rglob("*")) == ["1", "config.pbtxt", "model.onnx"]


def test_a_build_that_fails_leaves_the_old_model(tmp_path: Path) -> None:
    weights, folder = classifier(tmp_path / "model.onnx"), tmp_path / "classification"
    write_model(classifier_entry(), weights, folder)
    before = (folder / "1" / "model.onnx").read_bytes(), (folder / "config.pbtxt").read_bytes()
    with pytest.raises(ValueError, match="expected scores"):
        write_model(classifier_entry(labels=("a", "b")), weights, folder)
    assert ((folder / "1" / "model.onnx").read_bytes(), (folder / "config.pbtxt").read_bytes()) == before


def test_a_profile_is_built_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = classifier(tmp_path / "model.onnx")
    source = {"file": "model.onnx", "sha256": file_sha256(weights)}
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr(repository, "load_entry", lambda name: classifier_entry(name=name, source=source))
    reported: list[tuple[str, str, bool]] = []
    profile = Profile(name="made", description="Made here", tasks={"classification": "under_test"})
    for _ in range(2):
        build_repository(profile, tmp_path / "out", report=lambda *what: reported.append(what))
    assert reported == [("classification", "under_test", True), ("classification", "under_test", False)]
    wrong = Profile(name="wrong", description="Wrong", tasks={"detection": "under_test"})
    with pytest.raises(ValueError, match="profile wrong: expected an entry for detection, found under_test for class"):
        build_repository(wrong, tmp_path / "out")
