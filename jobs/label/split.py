"""Which trajectory goes to which split."""

import numpy as np

from jobs.spec.label import TrajectorySplit


def split_trajectories(trajectories: int, split: TrajectorySplit, seed: int) -> list[str]:
    """The split of each trajectory: the seed draws the test ones, then the valid ones; the rest trains."""
    order = np.random.default_rng(seed).permutation(trajectories)
    names = ["train"] * trajectories
    for index in order[: split.test]:
        names[index] = "test"
    for index in order[split.test : split.test + split.valid]:
        names[index] = "valid"
    return names
