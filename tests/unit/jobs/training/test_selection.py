"""The best evaluation, and early stopping, against the whole list of values."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.spec.optimizer import EarlyStop
from jobs.training.selection import Selection

values = st.lists(st.floats(-10, 10) | st.just(math.nan), max_size=30)


def judged(selection, given_values):
    return [selection.judge(10 * (place + 1), {"m": value}) for place, value in enumerate(given_values)]


@settings(deadline=None, max_examples=50)
@given(values, st.sampled_from(["min", "max"]))
def test_the_best_is_the_first_of_the_extremes(given_values, mode):
    selection = Selection("m", mode, None)
    judged(selection, given_values)
    finite = [value for value in given_values if not math.isnan(value)]
    if not finite:
        assert selection.step == 0
        assert math.isnan(selection.value)
        return
    best = min(finite) if mode == "min" else max(finite)
    assert selection.value == best
    assert selection.step == 10 * (given_values.index(best) + 1)
    assert not selection.hopeless


def stale_slowly(given_values, delta):
    """Evaluations since the last that was better than every mark before it by more than `delta`."""
    mark, stale = None, 0
    for value in given_values:
        if not math.isnan(value) and (mark is None or value < mark - delta):
            mark, stale = value, 0
        else:
            stale += 1
    return stale


@settings(deadline=None, max_examples=50)
@given(values, st.floats(0, 3), st.integers(1, 5))
def test_hope_ends_after_so_many_evaluations_without_progress(given_values, delta, patience):
    selection = Selection("m", "min", EarlyStop(patience=patience, min_delta=delta))
    for count in range(len(given_values)):
        judged_alone = selection.judge(count + 1, {"m": given_values[count]})
        assert selection.hopeless == (stale_slowly(given_values[: count + 1], delta) >= patience)
        assert judged_alone == (selection.step == count + 1)


@settings(deadline=None, max_examples=50)
@given(values, values)
def test_a_selection_survives_json(before, after):
    one, other = (Selection("m", "max", EarlyStop(patience=2, min_delta=0.1)) for _ in range(2))
    judged(one, before)
    other.load_state(json.loads(json.dumps(one.state(), allow_nan=False)))
    assert judged(one, after) == judged(other, after)
    assert one.state() == other.state()


def test_what_is_not_measured_is_told_with_what_is():
    with pytest.raises(KeyError, match="valid/x is not measured; measured: valid/a, valid/b"):
        Selection("valid/x", "min", None).judge(1, {"valid/b": 0.0, "valid/a": 1.0})
