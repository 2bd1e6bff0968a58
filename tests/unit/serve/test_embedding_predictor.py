"""Shapes an image may have, and that embeddings have length one."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from serve.predictors.embedding import EmbeddingPredictor
from serve.rejection import RejectedError


def halves(pixels: Tensor) -> Tensor:
    """Double of a model: sums of the left and of the right half."""
    return torch.stack([pixels[..., :2].sum((1, 2, 3)), pixels[..., 2:].sum((1, 2, 3))], dim=1)


def predictor(embed: Any = halves, shape: tuple[int, int, int] = (1, 2, 4)) -> EmbeddingPredictor:
    return EmbeddingPredictor(embed, shape=shape, space="halves-1", facts={}, budget=1000)


IMAGE = [[3.0, 0.0, 0.0, 2.0], [0.0, 0.0, 2.0, 0.0]]


@pytest.mark.parametrize("raw", [IMAGE, [IMAGE], [pixel for row in IMAGE for pixel in row]])
def test_an_image_may_come_with_or_without_its_channel_or_flat(raw: Any) -> None:
    model = predictor()
    (vector,) = model.predict([model.prepare(raw)])
    np.testing.assert_allclose(vector, [0.6, 0.8], atol=1e-7)


def test_embeddings_have_length_one_and_the_order_of_the_images() -> None:
    model = predictor()
    images = np.random.default_rng(0).uniform(0.1, 1, (5, 1, 2, 4))
    vectors = model.predict([model.prepare(image.tolist()) for image in images])
    for image, vector in zip(images, vectors, strict=True):
        expected = np.array([image[..., :2].sum(), image[..., 2:].sum()])
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ([[1.0, 2.0]], "wrong_shape"),
        ([IMAGE, IMAGE], "wrong_shape"),
        ([[1.0, 2.0, 3.0, 4.0], [1.0]], "ragged"),
        ([[1e300, 0.0, 0.0, 0.0], [0.0] * 4], "bad_pixel"),
    ],
)
def test_an_image_of_another_shape_is_refused(raw: Any, code: str) -> None:
    with pytest.raises(RejectedError) as caught:
        predictor().prepare(raw)
    assert (caught.value.status, caught.value.code) == (422, code)


def test_colours_are_not_mistaken_for_rows() -> None:
    model = predictor(shape=(3, 2, 4))
    with pytest.raises(RejectedError, match="channels, rows, columns"):
        model.prepare(IMAGE)
    assert model.prepare([IMAGE, IMAGE, IMAGE]).shape == (3, 2, 4)


def test_a_vector_without_direction_fails_alone() -> None:
    model = predictor()
    outcomes = model.predict([model.probe(), np.zeros((1, 2, 4), dtype=np.float32)])
    assert isinstance(outcomes[1], RejectedError)
    assert isinstance(outcomes[0], np.ndarray)


def test_the_facts_say_the_length_and_the_space() -> None:
    facts = predictor().facts
    assert (facts["dim"], facts["space"], facts["normalised"], facts["shape"]) == (2, "halves-1", True, [1, 2, 4])
