"""Nearest neighbours against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from equimodels.errors import SettingError
from equimodels.evaluation import knn
from equimodels.evaluation.knn import knn_accuracy, knn_predict


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[:900]
    x, y = torch.from_numpy(images[order]), torch.from_numpy(labels[order]).long()
    return x[:600], y[:600], x[600:], y[600:]


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.07), (10, 0.07), (20, 0.5)])
def test_the_vote_matches_scikit_learn(digits, neighbours, temperature):
    x, y, test_x, _ = digits
    theirs = KNeighborsClassifier(
        neighbours, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature)
    ).fit(x - x.mean(0), y)
    found = knn_predict(x, y, test_x, neighbours=neighbours, temperature=temperature)
    assert (found.numpy() == theirs.predict(test_x - x.mean(0))).all()


def test_an_even_vote_differs_from_a_weighted_one(digits):
    x, y, test_x, _ = digits
    weighted, even = (knn_predict(x, y, test_x, neighbours=100, temperature=t) for t in (0.02, 1e6))
    assert (weighted != even).any()


def test_a_mean_that_all_features_share_does_not_matter(digits):
    x, y, test_x, _ = digits
    assert torch.equal(knn_predict(x, y, test_x), knn_predict(x + 1e3, y, test_x + 1e3))


def test_splitting_the_test_samples_changes_nothing(digits, monkeypatch):
    x, y, test_x, _ = digits
    whole = knn_predict(x, y, test_x)
    monkeypatch.setattr(knn, "ROWS", 7)
    assert torch.equal(knn_predict(x, y, test_x), whole)


def test_a_low_temperature_is_the_nearest_neighbour_and_does_not_overflow(digits):
    x, y, test_x, _ = digits
    cold = knn_predict(x, y, test_x, neighbours=10, temperature=1e-5)
    assert torch.equal(cold, knn_predict(x, y, test_x, neighbours=1))


def test_digits_are_told_apart_and_shuffled_labels_are_not(digits):
    x, y, test_x, test_y = digits
    assert knn_accuracy(x, y, test_x, test_y) > 0.93
    mixed = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    assert abs(knn_accuracy(x, mixed, test_x, test_y) - 0.1) < 0.07


@pytest.mark.parametrize("setting", [{"neighbours": 0}, {"neighbours": 601}, {"temperature": 0.0}])
def test_a_setting_out_of_range_is_refused(digits, setting):
    x, y, test_x, _ = digits
    with pytest.raises(SettingError):
        knn_predict(x, y, test_x, **setting)
