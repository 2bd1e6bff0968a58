"""Interrupted runs of whole workers: the same bits on the same workers, the same numbers on others."""

import math

import pytest
import small_runs
import torch
from small_runs import spec, state, task_of

pytestmark = pytest.mark.integration
STRATEGIES = {
    "ddp": {"kind": "ddp"},
    "zero-1": {"kind": "deepspeed", "zero_stage": 1},
    "zero-3": {"kind": "deepspeed", "zero_stage": 3},
    "fsdp": {"kind": "fsdp"},
    "two-phase": {"kind": "fsdp", "units": "blocks", "force_gradient": "two_phase"},
}
# Two that differ in how they cut the state, within `make test`; the others with the slow tests.
EACH = ["ddp", "fsdp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zero-1", "zero-3", "two-phase"))]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_runs.publish(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("strategy", EACH)
def test_ten_steps_are_five_and_five_more_to_the_bit(two_ranks, store, strategy):
    wanted = spec("potential", STRATEGIES[strategy], workers=2)
    unbroken, broken = (task_of(store, wanted, f"{strategy}-{name}") for name in ("unbroken", "broken"))
    (expected, records, _, outcome), _ = two_ranks.call(small_runs.train, unbroken)
    (first, _, events, nothing), _ = two_ranks.call(small_runs.train, broken, 4)
    assert (nothing, events[-1]) == (None, (4, "preempted", {}))
    (second, resumed, _, same), _ = two_ranks.call(small_runs.train, broken)
    assert first + second == expected
    assert len(expected) == 10
    assert resumed == records
    assert {**same, "data_wait": 0} == {**outcome, "data_wait": 0}
    same_bits(state(store, unbroken.run_id), state(store, broken.run_id))


@pytest.mark.parametrize("strategy", EACH)
def test_a_run_goes_from_two_workers_to_one_and_back(two_ranks, one_rank, store, strategy):
    wanted = spec("potential", STRATEGIES[strategy], workers=2)
    unbroken, resized = (task_of(store, wanted, f"{strategy}-{name}") for name in ("constant", "resized"))
    (expected, records, *_), _ = two_ranks.call(small_runs.train, unbroken)
    losses, found = [], []
    for ranks, until in ((two_ranks, 3), (one_rank, 4), (two_ranks, None)):
        part, evaluations, *_ = ranks.call(small_runs.train, resized, until)[0]
        losses, found = losses + part, found + evaluations
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), rtol=1e-6, atol=1e-6)
    for (step, ours), (other, theirs) in zip(found, records, strict=True):
        assert step == other
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_another_strategy_goes_on_with_the_run(two_ranks, one_rank, store, workers):
    ranks = two_ranks if workers == 2 else one_rank
    names = [name for name in STRATEGIES if name != "two-phase"]
    expected = ranks.call(small_runs.train, task_of(store, spec("transformer", {"kind": "ddp"}, 2), f"ddp-{workers}"))
    losses = []
    for place, name in enumerate(names):
        wanted = spec("transformer", STRATEGIES[name], 2)
        until = None if place == len(names) - 1 else 2
        losses += ranks.call(small_runs.train, task_of(store, wanted, f"relay-{workers}"), until)[0][0]
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected[0][0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", EACH)
def test_a_bad_batch_of_one_rank_is_left_out_by_both(two_ranks, store, strategy):
    task = task_of(store, spec("potential", STRATEGIES[strategy], 2), f"bad-{strategy}")
    (losses, _, events, outcome), (*_, others) = two_ranks.call(small_runs.train_with_a_bad_batch, task, 1, 2)
    ((step, _, details),) = [event for event in events if event[1] == "skipped"]
    assert (step, details["rank"], details["norm"]) == (3, 1, None)
    assert len(details["samples"]) == 2
    assert outcome["skipped"] == others["skipped"] == 1
    assert [math.isfinite(loss) for loss in losses] == [True] * 10  # the metrics of that batch were good
    notes, slots = state(store, task.run_id)
    assert (notes["counters"]["steps"], notes["updates"], notes["step"]) == (9, 9, 10)
    assert all(values.isfinite().all() for pieces in slots.values() for values in pieces.values())


def same_bits(one, other):
    (notes, slots), (others_notes, others_slots) = one, other
    assert notes == others_notes
    assert sorted(slots) == sorted(others_slots)
    assert {"value", "average", "average/0.1", "best", "exp_avg", "exp_avg_sq"} <= set(slots)
    for slot, pieces in slots.items():
        for name, values in pieces.items():
            assert torch.equal(values, others_slots[slot][name]), (slot, name)
