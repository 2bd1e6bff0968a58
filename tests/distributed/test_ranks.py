"""The helper itself: results come in rank order, and a rank that fails ends the call with its error."""

import pytest
import torch
import torch.distributed as dist
from ranks import RankFailedError

pytestmark = pytest.mark.integration


def sum_of_ranks(world, offset):
    total = torch.tensor([float(world.rank + offset)])
    dist.all_reduce(total)
    return world.rank, total


def fail_on_one(world):
    if world.rank == 1:
        raise ValueError("rank 1 cannot")
    dist.barrier()


def test_a_call_runs_on_every_rank(two_ranks):
    assert two_ranks.call(sum_of_ranks, 10) == [(0, torch.tensor([21.0])), (1, torch.tensor([21.0]))]


def test_a_rank_that_raises_ends_the_call_and_the_next_one_works(two_ranks):
    with pytest.raises(RankFailedError, match="rank 1 cannot"):
        two_ranks.call(fail_on_one)
    assert len(two_ranks.call(sum_of_ranks, 0)) == 2
