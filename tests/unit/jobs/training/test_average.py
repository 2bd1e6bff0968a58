"""Averages along the run against their recurrences, written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.state.piece import Piece
from jobs.training.average import Averages
from jobs.training.pieces import copied, recut


def pieces(value, start=0, count=3):
    return {"weight": Piece(start, torch.full((count,), float(value)))}


def test_the_average_follows_the_published_recurrence():
    average, expected = Averages(0.9, (), pieces(0)), 0.0
    for n in range(1, 40):
        average.update(pieces(n))
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert average.chosen["weight"].values.tolist() == pytest.approx([expected] * 3, rel=1e-5)


def test_without_decay_there_is_no_average():
    average = Averages(0.0, (), pieces(0))
    average.update(pieces(1))
    assert average.chosen is None
    assert average.slots == {}


def test_a_rank_that_holds_nothing_averages_nothing():
    average = Averages(0.9, (0.1,), {})
    average.update({})
    assert average.chosen == {}
    assert average.slots == {"average": {}, "average/0.1": {}}


def test_the_first_update_of_a_power_function_average_forgets_the_start():
    average = Averages(0.0, (0.1,), pieces(1e9))
    average.update(pieces(3))
    assert average.slots["average/0.1"]["weight"].values.tolist() == [3.0] * 3


def test_an_average_is_a_copy():
    values = pieces(0)
    average = Averages(0.9, (), values)
    values["weight"].values.fill_(5)
    assert average.chosen["weight"].values.tolist() == [0.0] * 3
    held = copied(values)
    values["weight"].values.fill_(6)
    assert held["weight"].values.tolist() == [5.0] * 3


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 5))
def test_a_saved_slot_is_cut_as_this_rank_holds_it(one, other, updates):
    start, stop = sorted((one, other))
    saved = torch.arange(20, dtype=torch.float32)
    asked, given_out = [], []

    def find(slot, name, first, last):
        asked.append(slot)
        given_out.append(saved[first:last].clone())
        return given_out[-1]

    layout = pieces(0, start, stop - start)
    average = Averages(0.9, (0.1,), layout)
    average.load(find, layout, updates)
    assert average.updates == updates
    for slot in ("average", "average/0.1"):
        found = average.slots[slot]["weight"]
        assert (found.start, found.values.tolist()) == (start, saved[start:stop].tolist())
    assert asked == ["average", "average/0.1"]
    cut = recut(find, "best", layout)["weight"].values
    assert cut.data_ptr() == given_out[-1].data_ptr()  # a copy of a copy would be one too many
    assert recut(find, "best", pieces(0, start, stop - start), torch.device("meta"))["weight"].values.is_meta
