"""Steps that are left out: which ones, what is told of them, and when the run ends."""

import math
import pickle
from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from line_fit import Memory, elastic, interrupted, run, spec

from jobs.errors import TrainingDivergedError
from jobs.training.guard import FIRST, WINDOW, StepGuard

norms = st.lists(st.floats(0, 1e30, allow_nan=False) | st.sampled_from([math.nan, math.inf]), max_size=300)


def limits_slowly(given_norms, spike):
    """The limit before each step, from the whole history: the slow twin."""
    taken, found = [], []
    for norm in given_norms:
        found.append(spike * median(taken[-WINDOW:]) if len(taken) >= FIRST else math.inf)
        if math.isfinite(norm) and norm <= found[-1]:
            taken.append(norm)
    return found


@settings(deadline=None, max_examples=50)
@given(norms)
def test_the_limit_is_a_multiple_of_the_running_median(given_norms):
    guard, found = StepGuard(3.0, budget=10), []
    for norm in given_norms:
        found.append(guard.limit)
        guard.took(norm)
    assert found == limits_slowly(given_norms, 3.0)


@settings(deadline=None, max_examples=50)
@given(norms, st.integers(0, 300))
def test_a_guard_that_is_stored_and_read_again_goes_on_to_the_bit(given_norms, at):
    guard, again = StepGuard(3.0, budget=10), StepGuard(3.0, budget=10)
    for norm in given_norms[:at]:
        guard.took(norm)
    again.load_state(pickle.loads(pickle.dumps(guard.state())))
    for norm in given_norms[at:]:
        assert (guard.limit, guard.took(norm)) == (again.limit, again.took(norm))
    assert guard.state() == again.state()


def test_without_a_spike_only_what_is_no_number_is_left_out():
    guard = StepGuard(None, budget=1)
    taken = [guard.took(norm) for norm in [1.0] * 50 + [1e30, math.nan, math.inf]]
    assert taken == [True] * 51 + [False, False]
    assert guard.spent


def test_a_batch_that_is_no_number_is_left_out_and_told():
    memory = Memory()
    outcome, engine = run(memory, spec(), training={"poison": [7]})
    assert outcome.skipped == 6  # once an epoch
    assert engine.steps == 24
    assert torch.isfinite(engine.module.weight).all()
    told = [details for _, what, details in memory.events if what == "skipped"]
    assert len(told) == 6
    for details in told:
        assert "point-7" in details["samples"]
        assert len(details["samples"]) == 8
        assert (details["norm"], details["loss"], details["rank"]) == (None, None, 0)


def test_a_left_out_step_leaves_the_weights_and_the_average_alone():
    memory = Memory()
    run(memory, spec(**{"checkpoint.every_steps": 1}), training={"poison": [7]})
    skipped = [step for step, what, _ in memory.events if what == "skipped"]
    assert skipped[1:]
    for step in skipped:
        if step == 1:
            continue
        for slot in ("value", "average", "momentum"):
            before, after = (memory.saved[at][1][0][slot]["weight"].values for at in (step - 1, step))
            assert torch.equal(before, after)


def test_a_spike_is_left_out_once_there_is_a_history():
    memory = Memory()
    wanted = spec(**{"schedule.steps": 60, "guard.budget": 20, "strategy.gradient_clipping": 1.0})
    outcome, _ = run(memory, wanted, training={"spikes": [7]})
    skipped = [(step, details) for step, what, details in memory.events if what == "skipped"]
    assert outcome.skipped == len(skipped) == 8  # one in each epoch of 5 steps, after the first 20
    assert all(step > FIRST for step, _ in skipped)
    for _, details in skipped:
        assert "point-7" in details["samples"]
        assert details["norm"] > details["limit"] > 0


@pytest.mark.parametrize(("budget", "steps"), [(0, 1), (3, 4)])
def test_beyond_the_budget_the_run_ends_and_names_the_samples(budget, steps):
    memory = Memory()
    with pytest.raises(TrainingDivergedError, match=rf"{steps} steps were left out .* largest loss") as caught:
        run(memory, spec(**{"guard.budget": budget}), training={"poison": [7]})
    error = pickle.loads(pickle.dumps(caught.value))
    assert "point-7" in error.samples
    assert (error.rank, error.skipped) == (0, steps)
    assert math.isnan(error.norm)
    assert str(error) == str(caught.value)
    assert memory.finished == 1  # what was saved before it is committed


def test_the_rank_that_had_the_bad_batch_is_named_by_all():
    memory, wanted = Memory(), elastic(**{"guard.budget": 0})
    with pytest.raises(TrainingDivergedError) as caught:
        run(memory, wanted, workers=2, training={"poison": [7]})
    assert "point-7" in caught.value.samples
    assert len(caught.value.samples) == 4
    (event,) = [details for _, what, details in memory.events if what == "skipped"]
    assert event["rank"] == caught.value.rank
    assert event["samples"] == caught.value.samples


def test_what_the_guard_remembers_survives_an_interruption():
    wanted = spec(**{"schedule.steps": 60, "guard.budget": 20, "checkpoint.every_steps": 7})
    unbroken, broken = Memory(), Memory()
    _, expected = run(unbroken, wanted, training={"spikes": [7]})
    interrupted(broken, wanted, at=28, training={"spikes": [7]})
    _, found = run(broken, wanted, training={"spikes": [7]})
    assert torch.equal(found.module.weight, expected.module.weight)
    assert unbroken.saved[60][3] == broken.saved[60][3]
