"""The same run on one worker, on two, and on numbers that change."""

import pytest
import torch
from line_fit import Memory, elastic, interrupted, run

from jobs.spec.train import TrainSpec

CLOSE = {"rtol": 0, "atol": 1e-6}


def close(found, expected):
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), **CLOSE)


def steps_of(ranks, wanted):
    """The micro-batches of each step, in their order over all ranks."""
    parts = wanted.accumulation(len(ranks))
    given = [[points.given[at : at + parts] for at in range(0, len(points.given), parts)] for points in ranks]
    return [[one for together in zip(*step, strict=True) for one in together] for step in zip(*given, strict=True)]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_one_worker_sees_the_micro_batches_of_two(accumulate):
    wanted = elastic(**{"strategy.accumulate": accumulate})
    _, alone = run(Memory(), wanted)
    two = run(Memory(), wanted, workers=2)
    ours, theirs = steps_of([alone.points], wanted), steps_of([engine.points for _, engine in two], wanted)
    assert ours == theirs
    assert all(len(step) == 2 * accumulate for step in ours)


def test_two_workers_give_the_numbers_of_one():
    wanted, one, two = elastic(), Memory(), Memory()
    alone, engine = run(one, wanted)
    (outcome, _), (other, found) = run(two, wanted, workers=2)
    close(two.losses, one.losses)
    close(found.module.weight.tolist(), engine.module.weight.tolist())
    assert outcome.metrics == other.metrics
    close(list(outcome.metrics.values()), list(alone.metrics.values()))
    assert outcome.best_step == alone.best_step


@pytest.mark.parametrize("workers", [(2, 1, 2), (1, 2, 1)])
def test_a_run_goes_on_with_another_number_of_workers(workers):
    wanted, unbroken, broken = elastic(**{"schedule.posthoc_ema": [0.1]}), Memory(), Memory()
    run(unbroken, wanted, workers=2)
    interrupted(broken, wanted, at=10, workers=workers[0])
    interrupted(broken, wanted, at=20, workers=workers[1])
    run(broken, wanted, workers=workers[2])
    close(broken.losses, unbroken.losses)
    assert [details["workers"] for _, what, details in broken.events if what == "resumed"] == list(workers[1:])
    for slot in ("value", "average", "average/0.1", "momentum", "best"):
        close(*(whole(memory, slot).tolist() for memory in (broken, unbroken)))
    notes, expected = broken.saved[30][3], unbroken.saved[30][3]
    assert notes["reader"] == expected["reader"]
    assert notes["counters"] == expected["counters"]


def whole(memory, slot):
    pieces = sorted((slots[slot]["weight"] for slots in memory.saved[30][1].values()), key=lambda piece: piece.start)
    return torch.cat([piece.values for piece in pieces])


def test_a_request_to_one_rank_stops_all_of_them():
    from jobs.errors import PreemptedError

    memory = Memory()
    asked = iter([False] * 9 + [True] + [False] * 50)  # of two ranks that ask in turn: one of them in the fifth step
    with pytest.raises(PreemptedError, match="after step 5"):
        run(memory, elastic(), workers=2, stop=lambda: next(asked))
    size, ranks, *_ = memory.saved[5]
    assert size == len(ranks) == 2


def test_micro_batches_that_cannot_be_shared_are_refused():
    spec = elastic(**{"resources.workers": {"min": 1, "max": 4}})
    assert [spec.accumulation(workers) for workers in (1, 2, 4)] == [4, 2, 1]
    with pytest.raises(ValueError, match="4 micro-batches cannot be shared by 3 workers"):
        spec.accumulation(3)
    with pytest.raises(ValueError, match="cannot be shared by 3 workers"):
        TrainSpec.model_validate(elastic().model_dump(by_alias=True) | {"resources": {"workers": 3}})
