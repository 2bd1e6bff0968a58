"""Evaluation in lock-step: every rank calls the model equally often, and only what is its own counts."""

import pytest
import torch
from line_fit import Memory, elastic, run

CALLS = {40: 5, 12: 2, 3: 1}  # of each of two ranks with micro-batches of 4, by the number of samples


@pytest.mark.parametrize("samples", CALLS)
def test_every_rank_calls_the_model_equally_often_and_nothing_counts_twice(samples):
    """With 12 samples a rank repeats its last batch, with 3 one never had any and borrows."""
    wanted = elastic(**{"schedule.steps": 10})
    alone, _ = run(Memory(), wanted, validation={"samples": samples})
    ranks = run(Memory(), wanted, workers=2, validation={"samples": samples})
    forwards = [engine.forwards - 10 for _, engine in ranks]  # one for each step of training
    assert forwards == [CALLS[samples]] * 2
    for outcome, _ in ranks:
        torch.testing.assert_close(outcome.metrics["valid/loss"], alone.metrics["valid/loss"], rtol=1e-6, atol=0)
    assert ranks[0][0].metrics == ranks[1][0].metrics
