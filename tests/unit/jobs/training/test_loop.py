"""The training loop with a model small enough to check by hand: resuming, selecting, stopping."""

import pickle

import pytest
import torch
from line_fit import TRUTH, Memory, SquaredError, interrupted, run, spec

from jobs.errors import PreemptedError

SLOW = {"optimizer.params.lr": 0.01}  # each evaluation is better than the one before


def test_training_finds_the_line():
    outcome, engine = run(Memory(), spec(**{"schedule.steps": 300}))
    torch.testing.assert_close(engine.module.weight.detach(), TRUTH, atol=0.05, rtol=0)
    assert outcome.step == 300
    assert outcome.best_value < 0.05


@pytest.mark.parametrize("changes", [{}, {"schedule.ema": 0.0}, {"schedule.posthoc_ema": [0.05, 0.1]}])
@pytest.mark.parametrize("dies_at", [10, 20])
def test_an_interrupted_run_ends_with_exactly_the_numbers_of_an_unbroken_one(dies_at, changes):
    unbroken, broken, wanted = Memory(), Memory(), spec(**changes)
    whole, expected = run(unbroken, wanted)
    interrupted(broken, wanted, at=dies_at)
    resumed, found = run(broken, wanted)
    assert torch.equal(found.module.weight, expected.module.weight)
    assert (resumed.best_step, resumed.best_value) == (whole.best_step, whole.best_value)
    assert broken.records == unbroken.records
    assert broken.losses == unbroken.losses
    (_, (ours,), _, notes), (_, (theirs,), _, other) = [
        (size, tuple(ranks.values()), shapes, notes)
        for size, ranks, shapes, notes in (unbroken.saved[30], broken.saved[30])
    ]
    assert notes == other
    assert sorted(ours) == sorted(theirs)
    for slot, pieces in ours.items():
        assert torch.equal(pieces["weight"].values, theirs[slot]["weight"].values), slot


def test_another_seed_gives_other_numbers():
    """The negative control of the test above: equality there is not an accident of the problem."""
    _, first = run(Memory(), spec())
    _, second = run(Memory(), spec(seed=1))
    assert not torch.equal(first.module.weight, second.module.weight)


def test_a_run_that_is_over_is_not_begun_again():
    memory = Memory()
    whole, _ = run(memory, spec())
    again, engine = run(memory, spec())
    assert len(memory.progress) == 30
    assert (again.step, again.best_value, again.metrics) == (whole.step, whole.best_value, whole.metrics)
    assert engine.steps == 30


def test_the_best_weights_are_those_of_the_best_evaluation():
    memory = Memory()
    outcome, _ = run(memory, spec(**{"optimizer.params.lr": 0.9, "schedule.decay": "constant"}))
    losses = {step: values["valid/loss"] for step, values in memory.records}
    assert outcome.best_value == min(losses.values())
    assert losses[outcome.best_step] == outcome.best_value
    best = memory.saved[30][1][0]["best"]["weight"].values
    assert torch.equal(best, memory.saved[outcome.best_step][1][0]["average"]["weight"].values)
    assert max(memory.best) == outcome.best_step
    assert [step for step, what, _ in memory.events if what == "best"] == sorted(memory.best)


def test_without_an_average_the_trained_weights_are_evaluated_and_none_are_copied():
    memory = Memory()
    outcome, engine = run(memory, spec(**{"schedule.ema": 0.0}))
    slots = memory.saved[30][1][0]
    assert sorted(slots) == ["best", "momentum", "value"]
    assert engine.installs == 0
    assert torch.equal(memory.saved[outcome.best_step][1][0]["value"]["weight"].values, slots["best"]["weight"].values)


def test_evaluating_changes_nothing_of_the_training():
    _, often = run(Memory(), spec(**{"schedule.eval_every": 1}))
    _, once = run(Memory(), spec(**{"schedule.eval_every": 30}))
    assert often.installs == 60
    assert torch.equal(often.module.weight, once.module.weight)


def test_a_run_without_progress_stops_early_and_stays_stopped():
    memory = Memory()
    wanted = spec(**SLOW, **{"schedule.early_stop": {"patience": 2, "min_delta": 1e9}, "schedule.steps": 100})
    outcome, _ = run(memory, wanted)
    assert outcome.stopped_early
    assert outcome.step == 30  # the first evaluation, and two that are not better by 1e9
    assert outcome.best_step == 30  # but better they are
    again, _ = run(memory, wanted)
    assert again.step == 30
    assert len(memory.progress) == 30


@pytest.mark.parametrize("at", [7, 10, 13, 30])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_exactly(at):
    unbroken, broken = Memory(), Memory()
    _, expected = run(unbroken, spec())
    if at < 30:
        with pytest.raises(PreemptedError, match=f"after step {at} is committed") as caught:
            run(broken, spec(), stop=lambda: len(broken.progress) >= at - 1)
        assert caught.value.step == pickle.loads(pickle.dumps(caught.value)).step == at
        assert broken.finished == 1
        assert at in broken.saved
    _, found = run(broken, spec(), stop=lambda: len(broken.progress) >= 29)  # too late: it is over anyway
    assert torch.equal(found.module.weight, expected.module.weight)
    assert broken.records == unbroken.records


def test_best_weights_that_the_last_evaluation_finds_after_a_stop_are_saved():
    memory = Memory()
    wanted = spec(**SLOW, **{"schedule.early_stop": {"patience": 2, "min_delta": 1e9}, "schedule.steps": 100})
    with pytest.raises(PreemptedError):
        run(memory, wanted, stop=lambda: len(memory.progress) >= 29)
    outcome, _ = run(memory, wanted)  # begins with the evaluation that was owed, and ends there
    assert (outcome.step, outcome.best_step, len(memory.progress)) == (30, 30, 30)
    (slots,), notes = memory.saved[30][1].values(), memory.saved[30][3]
    assert torch.equal(slots["best"]["weight"].values, slots["average"]["weight"].values)
    assert (notes["metrics"], notes["ended"], 30 in memory.best) == (outcome.metrics, True, True)


def test_layers_and_evaluations_do_not_draw_the_noise_of_the_objective(monkeypatch):
    drawn = {"noise": [], "layers": [], "evaluation": []}
    trained, evaluated = SquaredError.__call__, SquaredError.evaluate

    def train(self, forward, batch, generator):
        drawn["noise"].append(generator.initial_seed())
        drawn["layers"].append(torch.default_generator.initial_seed())
        return trained(self, forward, batch, generator)

    def evaluate(self, forward, batch, generator):
        drawn["evaluation"].append(generator.initial_seed())
        return evaluated(self, forward, batch, generator)

    monkeypatch.setattr(SquaredError, "__call__", train)
    monkeypatch.setattr(SquaredError, "evaluate", evaluate)
    run(Memory(), spec())
    streams = [set(seeds) for seeds in drawn.values()]
    assert len(set.union(*streams)) == sum(map(len, streams))


def test_an_unknown_metric_is_told_with_those_there_are():
    publish = {"as": "line", "metric": "valid/los"}
    with pytest.raises(KeyError, match="valid/los is not measured; measured: valid/loss"):
        run(Memory(), spec(publish=publish))


def test_what_a_step_tells():
    memory = Memory()
    run(memory, spec())
    told = memory.progress[-1]
    assert told["skipped"] == 0
    assert told["samples"] == 30 * 8
    assert told["epoch"] == 6
    assert told["seconds_left"] == 0
    assert {"loss", "lr", "grad_norm", "step_seconds", "data_wait", "samples_per_second"} <= set(told)
    _, record = memory.records[-1]
    assert {"train/loss", "train/lr", "train/grad_norm", "valid/loss"} <= set(record)
