"""The order of samples: every one once an epoch, the same for the same seed, found at any position without a replay."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.data.order import Order, epoch_order, rows_in_order, window_at

group_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=30).map(tuple)
orders = st.builds(Order, seed=st.integers(0, 99), window=st.integers(1, 12), shuffle=st.booleans())


@given(group_sizes, orders, st.integers(0, 5))
def test_an_epoch_has_every_row_once(rows: tuple[int, ...], order: Order, epoch: int) -> None:
    assert sorted(epoch_order(rows, order, epoch)) == list(range(sum(rows)))


@given(group_sizes, orders, st.integers(0, 5))
def test_any_position_is_found_in_the_window_that_holds_it(rows: tuple[int, ...], order: Order, epoch: int) -> None:
    whole = epoch_order(rows, order, epoch)
    first = np.concatenate([[0], np.cumsum(rows)])
    for position in range(len(whole)):
        window = window_at(rows, order, epoch, position)
        assert window.start <= position < window.stop
        lying = np.concatenate([np.arange(first[group], first[group + 1]) for group in window.groups])
        assert lying[rows_in_order(window, order)][position - window.start] == whole[position]


def test_rows_that_are_not_shuffled_come_as_they_lie() -> None:
    assert epoch_order((3, 2, 4), Order(shuffle=False, window=2), 1).tolist() == list(range(9))


def test_seeds_and_epochs_give_different_orders_and_the_same_ones_again() -> None:
    rows = (16,) * 20
    first = [epoch_order(rows, Order(seed), epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    again = [epoch_order(rows, Order(seed), epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert first == again
    assert len({tuple(one) for one in first}) == 4


def test_the_first_order_of_all_is_this_one() -> None:
    # Golden: a release that changes the order must raise the version of `jobs.data.position`, or runs resume wrongly.
    assert epoch_order((4, 3, 5), Order(seed=7, window=2), 0).tolist() == GOLDEN


GOLDEN = [8, 2, 7, 1, 11, 0, 10, 9, 3, 5, 4, 6]


def test_groups_within_the_window_are_shuffled_as_one() -> None:
    # Each of 6 rows in 3 groups is at each of 6 places in 1/6 of the epochs: 5 sigma of a binomial of 3000.
    counts = Counter(
        (place, row)
        for epoch in range(3000)
        for place, row in enumerate(epoch_order((2, 2, 2), Order(seed=1, window=8), epoch).tolist())
    )
    assert all(
        abs(counts[place, row] - 500) < 5 * np.sqrt(3000 * (1 / 6) * (5 / 6)) for place in range(6) for row in range(6)
    )


def test_a_window_keeps_its_groups_together() -> None:
    places = np.argsort(epoch_order((5,) * 12, Order(seed=3, window=4), 0))
    spread = [np.ptp(places[5 * group : 5 * group + 5]) for group in range(12)]
    assert max(spread) < 4 * 5
    assert any(extent > 5 for extent in spread)  # the negative control: rows do leave their group


@settings(deadline=None)
@given(st.integers(0, 9_999_999))
def test_a_position_among_ten_million_rows_is_found_at_once(position: int) -> None:
    rows = (2500,) * 4000
    window_at(rows, Order(seed=1), 0, 0)  # the epoch's visits are made once
    started = time.perf_counter()
    window = window_at(rows, Order(seed=1), 0, position)
    rows_in_order(window, Order(seed=1))
    assert time.perf_counter() - started < 0.1


def test_a_position_outside_the_epoch_is_refused() -> None:
    with pytest.raises(IndexError, match="position 9 of an epoch of 9"):
        window_at((4, 5), Order(), 0, 9)
