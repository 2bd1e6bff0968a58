"""Where batches are cut: the same as cutting one sample after another, wherever the stretches of the stream end."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from jobs.data.batching import Budget, Count, Cutter

Stretches = list[list[int]]
stretches_of_weights = st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=5)


def all_cuts(cutter: Cutter, stretches: Stretches) -> list[int]:
    """Cuts as places in the whole stream."""
    found, before = [], 0
    for weights in stretches:
        atoms = np.array(weights, dtype=np.int64)
        found += [before + cut for cut in cutter.cut(len(weights), {"atoms": atoms, "edges": 2 * atoms})]
        before += len(weights)
    return found


def counted_one_by_one(samples: int, world: int, total: int) -> list[int]:
    ends = {(rank + 1) * samples // world for rank in range(world)}
    return [place for place in range(1, total + 1) if (place - 1) % samples + 1 in ends]


def fitted_one_by_one(weights: list[int], atoms: int, samples: int | None) -> list[int]:
    cuts, held, count = [], 0, 0
    for place, weight in enumerate(weights):
        if count and (held + weight > atoms or count == samples):
            cuts.append(place)
            held, count = 0, 0
        held, count = held + weight, count + 1
    return cuts


@given(st.integers(1, 7), st.integers(1, 4), stretches_of_weights)
def test_counting_cuts_where_counting_one_by_one_does(samples: int, world: int, stretches: Stretches) -> None:
    samples = max(samples, world)
    total = sum(map(len, stretches))
    assert all_cuts(Count(samples).cutter(world), stretches) == counted_one_by_one(samples, world, total)


@given(st.integers(9, 30), st.none() | st.integers(1, 5), stretches_of_weights)
def test_a_budget_cuts_where_fitting_one_by_one_does(atoms: int, samples: int | None, stretches: Stretches) -> None:
    weights = [weight for stretch in stretches for weight in stretch]
    cuts = all_cuts(Budget(atoms=atoms, samples=samples).cutter(3), stretches)
    assert cuts == fitted_one_by_one(weights, atoms, samples)


@given(st.integers(9, 30), st.integers(18, 40), stretches_of_weights)
def test_no_batch_exceeds_any_limit(atoms: int, edges: int, stretches: Stretches) -> None:
    weights = [weight for stretch in stretches for weight in stretch]
    cuts = all_cuts(Budget(atoms=atoms, edges=edges).cutter(1), stretches)
    sums = list(accumulate(weights, initial=0))
    for first, last in pairwise([0, *cuts, len(weights)]):
        assert sums[last] - sums[first] <= min(atoms, edges // 2)


@given(st.integers(9, 30), stretches_of_weights, st.data())
def test_cutting_goes_on_from_any_cut_as_if_it_had_begun_there(
    atoms: int, stretches: Stretches, data: st.DataObject
) -> None:
    weights = [weight for stretch in stretches for weight in stretch]
    cuts = all_cuts(Budget(atoms=atoms).cutter(1), [weights])
    if not cuts:
        return
    begin = data.draw(st.sampled_from(cuts))
    resumed = all_cuts(Budget(atoms=atoms).cutter(1), [weights[begin:]])
    assert [begin + cut for cut in resumed] == [cut for cut in cuts if cut > begin]


def test_a_sample_heavier_than_the_budget_is_alone() -> None:
    assert all_cuts(Budget(atoms=5).cutter(1), [[9, 1, 1, 9, 1]]) == [1, 3, 4]


@pytest.mark.parametrize("wrong", [{"atoms": 0}, {"atoms": 5, "samples": 0}, {}, {"samples": 4}])
def test_a_budget_that_limits_nothing_or_everything_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="a budget"):
        Budget(**wrong)


def test_a_batch_smaller_than_the_number_of_ranks_is_refused() -> None:
    with pytest.raises(UserError, match="2 samples cannot be shared by 3 ranks"):
        Count(2).cutter(3)
    with pytest.raises(UserError, match="a batch of 0 samples"):
        Count(0)
