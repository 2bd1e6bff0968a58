"""Rows of flat arrays do what a list of separate arrays would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.data.rows import Column, Rows

Lists = list[list[float]]


def ragged(lists: Lists) -> Rows:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    values = np.array([value for one in lists for value in one], dtype=np.float64)
    twice = Column(np.stack([values, -values], axis=1), offsets)
    return Rows(len(lists), {"a": Column(values, offsets), "b": twice, "n": Column(np.arange(len(lists)))})


def lists_of(rows: Rows) -> Lists:
    a, b = rows["a"], rows["b"]
    assert a.offsets is not None
    np.testing.assert_array_equal(b.values[:, 1], -a.values)
    assert b.offsets is a.offsets
    return [part.tolist() for part in np.split(a.values, a.offsets[1:-1])] if len(rows) else []


some_lists = st.lists(st.lists(st.floats(-9, 9), max_size=4), max_size=12)


@given(some_lists, st.randoms())
def test_rows_that_are_taken_are_those_of_a_list(lists: Lists, random: object) -> None:
    chosen = [random.randrange(len(lists)) for _ in range(7)] if lists else []  # type: ignore[attr-defined]
    taken = ragged(lists).take(np.array(chosen, dtype=np.int64))
    assert lists_of(taken) == [lists[i] for i in chosen]
    assert taken["n"].values.tolist() == chosen


@given(some_lists, st.integers(0, 12), st.integers(0, 12))
def test_slices_are_those_of_a_list(lists: Lists, one: int, other: int) -> None:
    start, stop = sorted(min(n, len(lists)) for n in (one, other))
    cut = ragged(lists).slice(start, stop)
    assert lists_of(cut) == lists[start:stop]
    assert cut["n"].values.tolist() == list(range(start, stop))


@given(st.lists(some_lists, min_size=1, max_size=4))
def test_joined_rows_are_those_of_all_lists(parts: list[Lists]) -> None:
    joined = Rows.join([ragged(part) for part in parts])
    assert lists_of(joined) == [one for part in parts for one in part]


def test_a_slice_shares_memory_and_what_is_taken_does_not() -> None:
    rows = ragged([[1.0, 2.0], [3.0]])
    assert np.shares_memory(rows.slice(0, 1)["a"].values, rows["a"].values)
    assert not np.shares_memory(rows.take(np.array([0]))["a"].values, rows["a"].values)


def test_bytes_count_shared_offsets_once() -> None:
    rows = ragged([[1.0, 2.0], [3.0]])
    assert rows.nbytes == 3 * 8 + 3 * 2 * 8 + 3 * 8 + 2 * 8


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="nothing to join"):
        Rows.join([])
