"""What must be there before a checkpoint counts, slot by slot."""

import math

import pytest

from jobs.checkpoints.coverage import require_whole
from jobs.checkpoints.errors import CheckpointError
from jobs.checkpoints.index import Place

SHAPES = {"a": (2, 3), "b": (4,), "c": (5,), "empty": (0, 3)}


def held(**slots):
    """Whole parameters, by slot: held(value="abc")."""
    return [Place(slot, name, "F32", 0, math.prod(SHAPES[name]), 0) for slot, names in slots.items() for name in names]


@pytest.mark.parametrize(
    "slots",
    [
        {"value": "abc"},
        {"value": "abc", "average": "abc", "average/0.1": "abc", "best": "abc"},
        {"value": "abc", "exp_avg": "abc", "exp_avg_sq": "abc"},
        {"value": "abc", "exp_avg": "bc", "exp_avg_sq": "bc", "momentum_buffer": "a"},
    ],
)
def test_a_whole_state_is_accepted(slots):
    require_whole(held(**slots), SHAPES)


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        ({"value": "ac"}, "the value of b"),
        ({"exp_avg": "abc"}, "the value of a"),
        ({"value": "abc", "average": "bc"}, "the average of a"),
        ({"value": "abc", "average/0.1": "ab"}, r"the average/0\.1 of c"),
        ({"value": "abc", "best": "a"}, "the best of b"),
        ({"value": "abc", "exp_avg": "ab", "exp_avg_sq": "abc"}, "the exp_avg of c"),
        ({"value": "abc", "exp_avg": "ab", "exp_avg_sq": "ab"}, "the exp_avg of c"),
        ({"value": "abc", "exp_avg": "bc", "exp_avg_sq": "b", "momentum_buffer": "a"}, "the exp_avg_sq of c"),
    ],
)
def test_a_parameter_that_a_slot_lacks_is_named(slots, words):
    with pytest.raises(CheckpointError, match=f"no rank holds {words}"):
        require_whole(held(**slots), SHAPES)
