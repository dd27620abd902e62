import numpy as np
import pytest

from models.catalog.schema import ClassifierHead, SemanticHead
from models.export.dense_heads import classifier_head, semantic_head
from tests.models.export.support import run


def softmax(scores: np.ndarray) -> np.ndarray:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_the_class_map_is_the_best_class_and_the_confidence_its_probability() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (2, 5, 16, 24)).astype(np.float32)
    outputs = run(semantic_head(SemanticHead(), 5, (5, 16, 24), (24, 16)), logits=logits)
    np.testing.assert_array_equal(outputs["class_map"], logits.argmax(axis=1))
    expected = softmax(logits.astype(np.float64)).max(axis=1) * 255
    assert outputs["class_confidence"].dtype == np.uint8
    assert np.abs(outputs["class_confidence"] - expected).max() <= 0.501


def test_confidence_survives_logits_that_would_overflow() -> None:
    logits = np.zeros((1, 2, 8, 8), np.float32)
    logits[:, 1] = 500.0
    outputs = run(semantic_head(SemanticHead(), 2, (2, 8, 8), (8, 8)), logits=logits)
    assert (outputs["class_map"] == 1).all()
    assert (outputs["class_confidence"] == 255).all()


@pytest.mark.parametrize(("stride", "size"), [(1, (16, 24)), (2, (8, 12))])
def test_logits_on_another_grid_are_interpolated(stride: int, size: tuple[int, int]) -> None:
    # A boundary between two classes whose logits are linear in x lies in the middle at every resolution.
    ramp = np.linspace(-2.5, 2.5, 6, dtype=np.float32)
    logits = np.stack([np.tile(-ramp, (4, 1)), np.tile(ramp, (4, 1))])[None]
    outputs = run(semantic_head(SemanticHead(stride=stride), 2, (2, 4, 6), (24, 16)), logits=logits)
    assert outputs["class_map"].shape == (1, *size)
    assert (outputs["class_map"][..., : size[1] // 2] == 0).all()
    assert (outputs["class_map"][..., size[1] // 2 :] == 1).all()


def test_logits_become_probabilities() -> None:
    scores = np.random.default_rng(0).normal(0, 3, (3, 7)).astype(np.float32)
    outputs = run(classifier_head(ClassifierHead(output="logits"), 7, (7,)), scores=scores)
    np.testing.assert_allclose(outputs["probabilities"], softmax(scores.astype(np.float64)), atol=1e-6)


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_a_dropped_background_leaves_probabilities_of_the_rest(output: str) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (2, 5)).astype(np.float32)
    scores = logits if output == "logits" else softmax(logits.astype(np.float64)).astype(np.float32)
    outputs = run(classifier_head(ClassifierHead(output=output, drop_first=True), 4, (5,)), scores=scores)
    np.testing.assert_allclose(outputs["probabilities"], softmax(logits[:, 1:].astype(np.float64)), atol=1e-6)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_other_numbers_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected logits of 4 classes as there are labels, found 5"):
        semantic_head(SemanticHead(), 4, (5, 16, 24), (24, 16))
    with pytest.raises(ValueError, match="expected an input that stride 8 divides, found 20x16"):
        semantic_head(SemanticHead(stride=8), 5, (5, 16, 24), (20, 16))
    with pytest.raises(ValueError, match=r"expected scores \[4\] for 4 labels, found \[5\]"):
        classifier_head(ClassifierHead(output="logits"), 4, (5,))
