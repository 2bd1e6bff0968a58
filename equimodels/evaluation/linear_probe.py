"""What a linear classifier can read from features: standardise, then multinomial logistic regression.

Shapes: n samples, D features, K classes. The weight decay is chosen on a fifth of the training samples, never on the
test samples: DINOv2's own sweep chooses on test, and so overstates.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from equimodels.errors import require

SMALL = 10_000_000  # features of all samples together
DECAYS = tuple(10.0**k for k in range(-5, 2))  # x n is 1 / C of scikit-learn


@dataclass(frozen=True)
class LogisticRegression:
    """Scores of K classes, `features @ weight + bias`. weight: (D, K) float64; bias: (K,) float64."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def fit(
        cls, features: NDArray[np.float64], labels: NDArray[np.int64], *, classes: int, weight_decay: float
    ) -> "LogisticRegression":
        """Minimise mean cross entropy + weight_decay / 2 |weight|^2 (the bias is free) by L-BFGS, to convergence."""
        samples, dim = features.shape
        x, y = torch.from_numpy(features), torch.from_numpy(labels)
        weight = torch.zeros(dim, classes, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
        # Torch's, not SciPy's: that one calls a threaded BLAS for a few hundred numbers, and takes 1.2 s for 0.2 s.
        optimizer: Any = torch.optim.LBFGS(
            [weight, bias],
            max_iter=2000,
            tolerance_grad=1e-6,
            tolerance_change=1e-10,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(torch.addmm(bias, x, weight), y) + weight_decay / 2 * weight.square().sum()
            torch.autograd.backward(value)
            return value

        with _threads(samples * dim), torch.enable_grad():
            optimizer.step(loss)
        return cls(weight.detach().numpy(), bias.detach().numpy())

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """The likeliest class of each sample. features: (n, D). Returns (n,)."""
        best: NDArray[np.int64] = np.argmax(features @ self.weight + self.bias, axis=1).astype(np.int64)
        return best


@dataclass(frozen=True)
class ProbeResult:
    """How well a probe did, and how it was chosen."""

    accuracy: float  # on the test samples, 0 to 1
    standard_error: float  # of the accuracy, from the number of test samples
    weight_decay: float  # the one chosen
    validation_accuracy: float  # with it, on the fifth of the training samples that was held out


def linear_probe(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    decays: Sequence[float] = DECAYS,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of a logistic regression on frozen features.

    features: (n, D), labels: (n,) int64 from 0, for training; likewise for the test. The weight decay that does best on
    a random fifth of the training samples (drawn by `seed`; the larger where two tie) is fitted again on all of them.
    Raises SettingError where shapes disagree or there are fewer than 5 training samples or no test samples.
    """
    x, y = _arrays("labels", features, labels)
    test_x, test_y = _arrays("test_labels", test_features, test_labels)
    require(len(x) >= 5, "features", len(x), "at least 5 samples")
    require(len(test_x) >= 1, "test_features", len(test_x), "at least 1 sample")
    require(x.shape[1] == test_x.shape[1], "test_features", test_x.shape[1], f"{x.shape[1]} features, as in training")
    require(len(decays) >= 1, "decays", tuple(decays), "at least one")
    classes = int(max(y.max(), test_y.max())) + 1

    order = np.random.default_rng(seed).permutation(len(x))
    held, fitted = order[: len(x) // 5], order[len(x) // 5 :]
    scores = {
        decay: _accuracy(x[fitted], y[fitted], x[held], y[held], classes=classes, weight_decay=decay)
        for decay in decays
    }
    chosen = max(scores, key=lambda decay: (scores[decay], decay))
    accuracy = _accuracy(x, y, test_x, test_y, classes=classes, weight_decay=chosen)
    error = math.sqrt(accuracy * (1 - accuracy) / len(test_y))
    return ProbeResult(accuracy, error, chosen, scores[chosen])


def _accuracy(
    x: NDArray[np.float64],
    y: NDArray[np.int64],
    test_x: NDArray[np.float64],
    test_y: NDArray[np.int64],
    *,
    classes: int,
    weight_decay: float,
) -> float:
    # Mean and spread of the samples fitted only: those of the test samples would be a look at them.
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0] = 1.0  # a feature that is the same everywhere (a corner of the digits) says nothing
    fit = LogisticRegression.fit((x - mean) / spread, y, classes=classes, weight_decay=weight_decay)
    return float((fit.predict((test_x - mean) / spread) == test_y).mean())


@contextmanager
def _threads(numbers: int) -> Iterator[None]:
    """One thread for a small problem: on a busy machine the threads of one wait ten times as long as they work."""
    before = torch.get_num_threads()
    if numbers < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _arrays(field: str, features: Tensor, labels: Tensor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    x = features.detach().cpu().to(torch.float64).numpy()
    y = labels.detach().cpu().to(torch.int64).numpy()
    require(x.ndim == 2 and y.shape == x.shape[:1], field, y.shape, f"one label for each of the features {x.shape}")
    return x, y
