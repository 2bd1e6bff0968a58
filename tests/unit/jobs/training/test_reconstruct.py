"""A width chosen after the run, from checkpoints of other widths, beside the same width taken along the run."""

from dataclasses import replace

import pytest
import torch
from line_fit import ALONE, Memory, run, spec

from jobs.training.reconstruct import reconstruct


@pytest.fixture(scope="module")
def kept():
    """The checkpoints of a noisy run, every 20 steps, with averages of three widths."""
    memory = Memory()
    schedule = {"steps": 300, "eval_every": 300, "warmup": 0, "decay": "constant", "posthoc_ema": [0.05, 0.1, 0.07]}
    run(memory, spec(schedule=schedule, **{"checkpoint.every_steps": 20}))
    return [memory.checkpoints(ALONE).open(step) for step in memory.saved]


def without(kept, *slots):
    return [replace(saved, slots=tuple(slot for slot in saved.slots if slot not in slots)) for saved in kept]


def test_a_width_that_was_not_kept_is_what_it_would_have_been(kept):
    newest = kept[-1]
    expected = newest.find("average/0.07", "weight", 0, 3)
    found = reconstruct(without(kept, "average/0.07"), 0.07)
    assert found.slots == ("average/0.07",)
    assert (found.step, found.shapes) == (300, newest.shapes)
    apart = (newest.find("average/0.05", "weight", 0, 3) - newest.find("average/0.1", "weight", 0, 3)).abs().max()
    torch.testing.assert_close(found.find("average/0.07", "weight", 0, 3), expected, rtol=0, atol=0.03 * float(apart))
    assert torch.equal(found.find("average/0.07", "weight", 1, 3), found.find("average/0.07", "weight", 0, 3)[1:])


def test_a_width_that_was_kept_is_found_again(kept):
    found = reconstruct(kept, 0.1).find("average/0.1", "weight", 0, 3)
    torch.testing.assert_close(found, kept[-1].find("average/0.1", "weight", 0, 3))


def test_checkpoints_without_such_averages_are_refused(kept):
    with pytest.raises(ValueError, match=r"see schedule\.posthoc_ema"):
        reconstruct(without(kept, "average/0.05", "average/0.07", "average/0.1"), 0.1)
