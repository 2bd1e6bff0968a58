"""Post-hoc EMA: widths, exponents, and averages that were never taken, against ones that were."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.training.posthoc import WIDEST, Snapshot, decay_of, exponent_of, mixture

widths = st.floats(0.01, WIDEST)


def profile(width, updates, total):
    """How much of each step's parameters is in the average after `updates` steps, (total,): the recurrence itself."""
    gamma, weights = exponent_of(width), np.zeros(total)
    for t in range(1, updates + 1):
        decay = decay_of(gamma, t)
        weights *= decay
        weights[t - 1] += 1 - decay
    return weights


def mixture_slowly(snapshots, wanted, total):
    """Least squares over the profiles of the recurrence, step by step."""
    known = np.stack([profile(one.width, one.step, total) for one in snapshots], axis=1)
    aim, heavy = profile(wanted.width, wanted.step, total), 1e3  # that the weights add up to 1 weighs most
    rows = np.vstack([known, np.full(len(snapshots), heavy)])
    return np.linalg.lstsq(rows, np.append(aim, heavy), rcond=1e-12)[0]


@settings(deadline=None, max_examples=50)
@given(widths)
def test_an_exponent_gives_its_width_back(width):
    gamma = exponent_of(width)
    assert math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) == pytest.approx(width, rel=1e-9)


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_the_widths_of_the_paper_have_its_exponents(width, gamma):
    assert exponent_of(width) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.3])
def test_a_width_that_no_exponent_gives_is_refused(width):
    with pytest.raises(ValueError, match=r"at most 0\.28"):
        exponent_of(width)


@settings(deadline=None, max_examples=50)
@given(widths, st.integers(100, 400))
def test_the_recurrence_has_the_width_it_is_named_by(width, updates):
    weights, steps = profile(width, updates, updates), np.arange(1, updates + 1) / updates
    assert weights.sum() == pytest.approx(1)
    mean = weights @ steps
    assert math.sqrt(weights @ (steps - mean) ** 2) == pytest.approx(width, abs=2 / updates)


def test_a_snapshot_that_was_taken_is_found_again():
    snapshots = [Snapshot(step, width) for step in (100, 200) for width in (0.05, 0.1)]
    for place, wanted in enumerate(snapshots):
        expected = np.eye(4)[place]
        np.testing.assert_allclose(mixture(snapshots, wanted), expected, atol=1e-6)


@pytest.mark.parametrize("width", [0.04, 0.07, 0.15, 0.2])
def test_another_width_is_put_together_from_snapshots(width):
    """Of a run of noisy parameters, beside the average that was taken along it and the slow least squares."""
    total, every = 800, 50
    random = np.random.default_rng(0)
    parameters = np.cumsum(random.normal(size=(total, 6)), axis=0) / 10 + random.normal(size=(total, 6))
    snapshots = [Snapshot(step, kept) for step in range(every, total + 1, every) for kept in (0.05, 0.1)]
    held = np.stack([profile(one.width, one.step, total) @ parameters for one in snapshots])
    wanted = Snapshot(total, width)
    expected = profile(width, total, total) @ parameters
    found = np.array(mixture(snapshots, wanted)) @ held
    slow = mixture_slowly(snapshots, wanted, total) @ held
    spread = np.abs(held[-1] - held[-2]).max()  # how far the two widths that were kept are apart
    assert np.abs(slow - expected).max() < 0.05 * spread
    assert np.abs(found - expected).max() < 0.05 * spread


def test_snapshots_of_later_steps_take_no_part():
    snapshots = [Snapshot(100, 0.1), Snapshot(200, 0.1)]
    assert mixture(snapshots, Snapshot(150, 0.1))[1] == 0.0
    with pytest.raises(ValueError, match="no snapshot at or before step 50"):
        mixture(snapshots, Snapshot(50, 0.1))


def test_weights_of_long_runs_are_finite():
    snapshots = [Snapshot(step, width) for step in range(100_000, 1_000_001, 100_000) for width in (0.02, 0.1)]
    weights = mixture(snapshots, Snapshot(1_000_000, 0.05))
    assert np.isfinite(weights).all()
    assert sum(weights) == pytest.approx(1)
