"""The linear probe against scikit-learn, and that it does not peek."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression as SklearnRegression
from sklearn.preprocessing import StandardScaler

from equimodels.errors import SettingError
from equimodels.evaluation.linear_probe import LogisticRegression, linear_probe


@pytest.fixture(scope="module")
def digits():
    """Training and test halves of 800 digits: x, y, test_x, test_y."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[:800]
    x, y = torch.from_numpy(images[order]), torch.from_numpy(labels[order]).long()
    return x[:500], y[:500], x[500:], y[500:]


def blobs(number=200, classes=3, distance=4.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=number)
    centres = distance * np.eye(classes, 5)
    return centres[labels] + rng.normal(size=(number, 5)), labels


@pytest.mark.parametrize("weight_decay", [1e-3, 1e-1])
def test_the_regression_finds_the_minimum_that_scikit_learn_finds(weight_decay):
    x, y = blobs(distance=1.0)
    ours = LogisticRegression.fit(x, y, classes=3, weight_decay=weight_decay)
    theirs = SklearnRegression(C=1 / (weight_decay * len(x)), tol=1e-10, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(ours.weight.T, theirs.coef_, rtol=1e-3, atol=1e-4)
    # A constant added to every bias changes nothing, so each side may have its own.
    np.testing.assert_allclose(
        ours.bias - ours.bias.mean(), theirs.intercept_ - theirs.intercept_.mean(), rtol=1e-3, atol=1e-3
    )


def test_another_weight_decay_finds_another_minimum():
    x, y = blobs(distance=1.0)
    ours = LogisticRegression.fit(x, y, classes=3, weight_decay=1e-1)
    theirs = SklearnRegression(C=1 / (2e-1 * len(x)), tol=1e-10, max_iter=10_000).fit(x, y)
    assert np.abs(ours.weight.T - theirs.coef_).max() > 0.01


def test_the_probe_of_raw_digits_agrees_with_scikit_learn(digits):
    x, y, test_x, test_y = digits
    ours = linear_probe(*digits, decays=(1e-2,))
    scaler = StandardScaler().fit(x)
    theirs = SklearnRegression(C=1 / (1e-2 * len(x)), max_iter=5000).fit(scaler.transform(x), y)
    assert ours.accuracy == pytest.approx(theirs.score(scaler.transform(test_x), test_y), abs=1.1 / len(test_y))
    assert ours.accuracy > 0.9


def test_the_weight_decay_is_chosen_among_those_given_by_validation(digits):
    found = linear_probe(*digits, decays=(1e-2, 1e4))
    assert found.weight_decay == 1e-2
    assert found.validation_accuracy > 0.9


def test_the_choice_does_not_look_at_the_test_samples(digits):
    x, y, test_x, test_y = digits
    straight = linear_probe(x, y, test_x, test_y)
    shuffled = linear_probe(x, y, test_x, test_y.roll(1))
    assert (straight.weight_decay, straight.validation_accuracy) == (
        shuffled.weight_decay,
        shuffled.validation_accuracy,
    )
    assert shuffled.accuracy < 0.3


def test_shuffled_labels_give_chance(digits):
    x, y, test_x, test_y = digits
    mixed = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    found = linear_probe(x, mixed, test_x, test_y)
    assert abs(found.accuracy - 0.1) < 0.07  # four standard errors of chance on 300 samples


def test_the_scale_of_a_feature_does_not_matter(digits):
    x, y, test_x, test_y = digits
    scale = torch.logspace(-3, 3, x.shape[1], dtype=torch.float64)
    straight = linear_probe(x, y, test_x, test_y, decays=(1e-2,))
    scaled = linear_probe(x * scale + 5, y, test_x * scale + 5, test_y, decays=(1e-2,))
    assert scaled.accuracy == pytest.approx(straight.accuracy, abs=1.1 / len(test_y))


def test_the_probe_repeats_and_single_precision_is_enough(digits):
    x, y, test_x, test_y = digits
    assert linear_probe(*digits, decays=(1e-2,)) == linear_probe(*digits, decays=(1e-2,))
    single = linear_probe(x.float(), y, test_x.float(), test_y, decays=(1e-2,))
    assert single.accuracy == pytest.approx(linear_probe(*digits, decays=(1e-2,)).accuracy, abs=1.1 / len(test_y))


def test_the_standard_error_is_that_of_a_share():
    x, y = (torch.from_numpy(a) for a in blobs(distance=1.0))
    found = linear_probe(x[:100], y[:100], x[100:], y[100:])
    assert 0.3 < found.accuracy < 1.0
    assert found.standard_error == pytest.approx(math.sqrt(found.accuracy * (1 - found.accuracy) / 100))


def test_a_class_that_only_the_test_has_is_an_error_of_the_probe_and_not_a_crash():
    x, y = (torch.from_numpy(a) for a in blobs(classes=2))
    assert linear_probe(x[:100], y[:100], x[100:], torch.full((100,), 2)).accuracy == 0.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda x, y, u, v: (x, y[:-1], u, v), "labels"),
        (lambda x, y, u, v: (x, y, u, v[:-1]), "test_labels"),
        (lambda x, y, u, v: (x, y, u[:, :3], v), "test_features"),
        (lambda x, y, u, v: (x, y, u[:0], v[:0]), "test_features"),
        (lambda x, y, u, v: (x[:4], y[:4], u, v), "features"),
    ],
)
def test_samples_that_do_not_fit_together_are_refused(change, field):
    x, y = (torch.from_numpy(a) for a in blobs())
    with pytest.raises(SettingError) as caught:
        linear_probe(*change(x[:100], y[:100], x[100:], y[100:]))
    assert caught.value.field == field
