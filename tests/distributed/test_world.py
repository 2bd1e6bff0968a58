"""What two processes agree on, and how a wait for one that does not come ends."""

import time
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist

from jobs.failure import Cause, Symptom, cause_of
from jobs.world import World


def votes(world: World) -> list[bool]:
    return [world.any(False), world.any(world.rank == 1), world.any(True)]


def test_any_is_the_same_answer_on_every_rank(two_ranks: Any) -> None:
    assert two_ranks.call(votes) == [[False, True, True]] * 2


def arrivals(world: World) -> tuple[float, float]:
    if world.leads:
        time.sleep(0.5)
    came = time.monotonic()
    world.barrier()
    return came, time.monotonic()


def test_nobody_passes_a_barrier_before_all_have_come(two_ranks: Any) -> None:
    came, left = zip(*two_ranks.call(arrivals), strict=True)
    assert min(left) >= max(came)  # one clock: CLOCK_MONOTONIC is the machine's


def sums(world: World) -> dict[str, float]:
    found = world.sum({"a": torch.tensor(1.0 + world.rank), "b": torch.ones(2, 2)})
    return {name: float(value.sum()) for name, value in found.items()}


def test_sums_are_of_all_ranks(two_ranks: Any) -> None:
    assert two_ranks.call(sums) == [{"a": 3.0, "b": 8.0}] * 2


def late(world: World, limit: float) -> tuple[str, str]:
    """Rank 1 stays away from a collective of a group with a time limit; what rank 0 is told."""
    group = dist.new_group(timeout=timedelta(seconds=limit))
    if world.leads:
        try:
            dist.all_reduce(torch.ones(1), group=group)
        except RuntimeError as error:
            return type(error).__name__, str(error)
    else:
        time.sleep(2 * limit)
    return "", ""


def test_a_wait_that_takes_too_long_is_recognised_as_a_hang(two_ranks: Any) -> None:
    kind, text = two_ranks.call(late, 2.0)[0]
    assert cause_of(Symptom(0, kind, text, ("RuntimeError",))) is Cause.HUNG, text


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_are_told_apart(two_ranks: Any, rank: int) -> None:
    assert two_ranks.call(who)[rank] == (rank, rank == 0, ["0", "1"])


def who(world: World) -> tuple[int, bool, list[str]]:
    return world.rank, world.leads, world.gather(str(world.rank))
