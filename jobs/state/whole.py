"""Whole parameters from the pieces of a saved state, one at a time."""

import math

from torch import Tensor

from jobs.ports import Saved


def whole(saved: Saved, slot: str, name: str) -> Tensor:
    """A parameter in its shape, on the CPU. Raises KeyError where the state has no such slot of it."""
    shape = saved.shapes[name]
    return saved.find(slot, name, 0, math.prod(shape)).reshape(shape)
