"""A training state as runs of numbers: what a rank holds of it, whatever strategy divides the parameters.

A state has slots: `value` is the trained parameter itself, others are the optimizer's moments and averages of the
weights. For each slot and parameter the pieces of all ranks cover the flattened tensor exactly once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

VALUE, BEST = "value", "best"  # slots: the trained parameters; the weights of the best evaluation so far


def holds_weights(slot: str) -> bool:
    """Whether a slot has weights of the model, and not what an optimizer remembers."""
    return slot in (VALUE, BEST) or slot.startswith("average")


@dataclass(frozen=True)
class Piece:
    """A run of consecutive numbers of a flattened parameter: from index `start`, values (n,)."""

    start: int
    values: Tensor

    @property
    def stop(self) -> int:
        """The index after the last."""
        return self.start + self.values.numel()


Pieces = dict[str, Piece]  # by parameter
Slots = dict[str, Pieces]  # by slot

# (slot, parameter, start, stop) -> (stop - start,): a stretch of a saved state, wherever its numbers lie, as a copy.
# Raises KeyError where the state has no such slot or parameter.
Find = Callable[[str, str, int, int], Tensor]
