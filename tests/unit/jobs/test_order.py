"""The order of samples."""

import numpy as np
import pytest

from jobs.data.order import global_batch, rank_batch


def test_an_epoch_shows_every_sample_exactly_once() -> None:
    seen = np.concatenate([global_batch(step, samples=24, batch=8, seed=3) for step in range(3)])
    assert sorted(seen) == list(range(24))


def test_a_batch_that_crosses_epochs_loses_and_doubles_nothing() -> None:
    seen = np.concatenate([global_batch(step, samples=10, batch=4, seed=0) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_ranks_together_see_the_global_batch_in_order(size: int) -> None:
    parts = [rank_batch(5, samples=37, batch=8, seed=1, rank=rank, size=size) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(parts), global_batch(5, samples=37, batch=8, seed=1))


def test_epochs_and_seeds_differ() -> None:
    first = global_batch(0, samples=100, batch=100, seed=0)
    assert not np.array_equal(first, global_batch(1, samples=100, batch=100, seed=0))
    assert not np.array_equal(first, global_batch(0, samples=100, batch=100, seed=1))
