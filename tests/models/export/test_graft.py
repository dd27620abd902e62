import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from models.export.contract import ContractError, check_contract, graph_tensors
from models.export.fp16_storage import store_weights_as_fp16
from models.export.graft import GraftError, graft
from tests.models.export.support import entry, made_picture, run


def network(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> network {text}')


def mean_colours(batch: str = "N", opset: int = 17) -> onnx.ModelProto:
    """A classifier whose three logits are the means of the three channels it sees."""
    return network(
        f"(float[{batch},3,8,6] x) => (float[{batch},3] y) {{ y = ReduceMean<axes=[2,3], keepdims=0>(x) }}", opset
    )


COLOURS = {
    "task": "classification",
    "image": {"resize": "stretch", "width": 6, "height": 8},
    "labels": ("red", "green", "blue"),
    "head": {"kind": "classifier", "output": "logits"},
}


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits up to a constant."""
    values = np.log(probabilities.astype(np.float64))
    return values - values.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pixels_are_ordered_scaled_and_normalised(order: str) -> None:
    pixels = {"channel_order": order, "scale": 0.01, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 2.0)}
    model = graft(mean_colours(), entry(**COLOURS, pixels=pixels))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    expected = images.mean(axis=(1, 2))
    expected = ((expected if order == "rgb" else expected[:, ::-1]) * 0.01 - (0.1, 0.2, 0.3)) / (0.5, 0.25, 2.0)
    found = logits(run(model, image=images)["probabilities"])
    np.testing.assert_allclose(found, expected - expected.mean(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_older_opsets_are_converted(opset: int) -> None:
    model = graft(mean_colours(opset=opset), entry(**COLOURS))
    assert [opset.version for opset in model.opset_import] == [20]


def test_a_batch_axis_fixed_at_one_is_freed() -> None:
    text = """(float[1,3,8,6] x) => (float[1,3] y) {
        rows = Constant<value_ints = [1, 3, 48]>()
        flat = Reshape(x, rows)
        means = ReduceMean<axes = [2]>(flat)
        columns = Constant<value = int64[2] {1, 3}>()
        y = Reshape(means, columns)
    }"""
    model = graft(network(text), entry(**COLOURS))
    images = np.stack([made_picture(8, 6), made_picture(8, 6)[::-1], 255 - made_picture(8, 6)])
    together = run(model, image=images)["probabilities"]
    alone = np.concatenate([run(model, image=image[None])["probabilities"] for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(alone[0] - alone[2]).max() > 0.01


def test_a_network_with_branches_keeps_them() -> None:
    text = """(float[N,3,8,6] x) => (float[N,3] y) {
        means = ReduceMean<axes = [2, 3], keepdims = 0>(x)
        limit = Constant<value_float = 0.0>()
        greatest = ReduceMax<keepdims = 0>(means)
        is_bright = Greater(greatest, limit)
        y = If (is_bright) <
            then_branch = bright () => (float[N,3] doubled) { doubled = Add(means, means) },
            else_branch = dark () => (float[N,3] same) { same = Identity(means) }
        >
    }"""
    model = graft(network(text), entry(**COLOURS))
    image = made_picture(8, 6)[None]
    expected = 2 * image.mean(axis=(1, 2)) / 255
    found = logits(run(model, image=image)["probabilities"])
    np.testing.assert_allclose(found, expected - expected.mean(), atol=1e-4)


def test_outputs_and_constants_that_nothing_needs_are_left_out() -> None:
    model = mean_colours()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float32), "unused"))
    model.graph.node.append(onnx.helper.make_node("Neg", ["x"], ["auxiliary"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("auxiliary", 1, ["N", 3, 8, 6]))
    grafted = graft(model, entry(**COLOURS))
    assert not grafted.graph.initializer
    assert "Neg" not in [node.op_type for node in grafted.graph.node]


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (network("(float[N,3,9,6] x) => (float[N,3] y) { y = Identity(x) }"), COLOURS, r"expected one float picture"),
        (network("(uint8[N,3,8,6] x) => (uint8[N,3] y) { y = Identity(x) }"), COLOURS, r"expected one float picture"),
        (
            network("(float[N,3,8,6] x, float[1] z) => (float[N,3] y) { y = Add(x, z) }"),
            COLOURS,
            r"expected one float picture",
        ),
        (mean_colours(), COLOURS | {"labels": ("red", "green")}, r"expected scores \[2\] for 2 labels, found \[3\]"),
        (mean_colours(), {"image": COLOURS["image"]}, "expected the outputs raw predictions, found"),
        (
            network("(float[N,3,8,6] x) => (float[N,3] y) { y = ReduceMean<keepdims=0>(x) }", opset=21),
            COLOURS,
            "expected opset 20 or older, found 21",
        ),
    ],
)
def test_a_network_that_is_not_what_its_entry_says_is_refused(
    model: onnx.ModelProto, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(GraftError, match=message) as caught:
        graft(model, entry(**fields))
    assert str(caught.value).startswith("under_test: ")


def test_the_contract_check_names_every_difference() -> None:
    model = graft(mean_colours(), entry(**COLOURS))
    check_contract(model, "classification")
    with pytest.raises(ContractError) as caught:
        check_contract(model, "instance_segmentation")
    for name in ("num_detections", "detection_boxes", "detection_scores", "detection_classes", "detection_masks"):
        assert f"expected output {name}" in str(caught.value)
    assert "expected no output probabilities" in str(caught.value)


@pytest.mark.parametrize(
    ("image", "probabilities", "message"),
    [
        (("image", "FLOAT", ["N", 8, 6, 3]), ("FLOAT", ["N", 8]), "expected one input image UINT8"),
        (("picture", "UINT8", ["N", 8, 6, 3]), ("FLOAT", ["N", 8]), "expected one input image UINT8"),
        (("image", "UINT8", [2, 8, 6, 3]), ("FLOAT", [2, 8]), "expected one input image UINT8"),
        (("image", "UINT8", ["N", 8, 6, 4]), ("FLOAT", ["N", 8]), "expected one input image UINT8"),
        (("image", "UINT8", ["N", 8, 6, 3]), ("FLOAT", [8]), "expected output probabilities FLOAT of rank 2"),
        (("image", "UINT8", ["N", 8, 6, 3]), ("UINT8", ["N", 8]), "expected output probabilities FLOAT of rank 2"),
        (("image", "UINT8", [8, 6, 3]), ("FLOAT", [1, 8]), "expected output probabilities FLOAT of rank 1"),
    ],
)
def test_the_contract_check_sees_wrong_types_and_shapes(
    image: tuple[str, str, list[int | str]], probabilities: tuple[str, list[int | str]], message: str
) -> None:
    name, *picture = image
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            # An operator of another domain: whatever it is said to give is believed.
            [onnx.helper.make_node("Classify", [name], ["probabilities"], domain="test")],
            "classifier",
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DataType.Value(picture[0]), picture[1])],
            [
                onnx.helper.make_tensor_value_info(
                    "probabilities", onnx.TensorProto.DataType.Value(probabilities[0]), probabilities[1]
                )
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("test", 1)],
    )
    with pytest.raises(ContractError, match=message):
        check_contract(model, "classification")


def test_fp16_storage_rounds_weights_alone_and_halves_the_file() -> None:
    random = np.random.default_rng(0)
    text = """(float[N,3,8,6] x, float[16,3,3,3] w, float[16] b) => (float[N,16,6,4] y) { y = Conv(x, w, b) }"""
    model = network(text)
    del model.graph.input[1:]
    weights, bias = random.normal(0, 1, (16, 3, 3, 3)).astype(np.float32), random.normal(0, 1, 16).astype(np.float32)
    model.graph.initializer.extend([numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")])
    x = random.normal(0, 1, (1, 3, 8, 6)).astype(np.float32)
    before, size = run(model, x=x)["y"], model.ByteSize()
    store_weights_as_fp16(model)
    onnx.checker.check_model(model, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert stored == {"w_fp16": onnx.TensorProto.FLOAT16, "b": onnx.TensorProto.FLOAT}
    assert model.ByteSize() < 0.7 * size
    rounded = run(model, x=x)["y"]
    assert 0 < np.abs(rounded - before).max() < 0.01


def test_weights_too_large_for_fp16_stay() -> None:
    model = network("(float[N,300] x, float[300,2] w) => (float[N,2] y) { y = MatMul(x, w) }")
    del model.graph.input[1:]
    model.graph.initializer.append(numpy_helper.from_array(np.full((300, 2), 1e6, np.float32), "w"))
    store_weights_as_fp16(model)
    assert [tensor.data_type for tensor in model.graph.initializer] == [onnx.TensorProto.FLOAT]


def test_a_finished_graph_says_what_it_is() -> None:
    model = graft(mean_colours(), entry(**COLOURS))
    assert {prop.key: prop.value for prop in model.metadata_props} == {"catalog_entry": "under_test", "licence": "none"}
    inputs, outputs = graph_tensors(model)
    assert str(inputs[0]) == "image UINT8 [-1, 8, 6, 3]"
    assert str(outputs[0]) == "probabilities FLOAT [-1, 3]"
