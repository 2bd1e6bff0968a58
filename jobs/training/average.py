"""Averages of the weights along the run, as pieces: each rank averages what it holds, and nothing is exchanged.

`average` is the exponential moving average that is evaluated and published; `average/<width>` are power-function
averages for a choice of the width afterwards (`jobs.training.posthoc`). All are copies of the fp32 masters.
"""

from collections.abc import Mapping, Sequence

import torch

from jobs.state.piece import Find, Piece, Pieces, Slots
from jobs.training.pieces import copied, recut
from jobs.training.posthoc import decay_of, exponent_of, slot_of

AVERAGE = "average"


class Averages:
    """The averages of one rank: exponential with `decay` (0: none) and one for each of the relative `widths`.

    The decay warms up as min(decay, (1 + n) / (10 + n)) over the number n of updates, so that the random start is
    forgotten.
    """

    def __init__(self, decay: float, widths: Sequence[float], values: Mapping[str, Piece]) -> None:
        self.updates = 0
        self._decay = decay
        self._exponents = {slot_of(width): exponent_of(width) for width in widths}
        names = ([AVERAGE] if decay else []) + list(self._exponents)
        self._slots: Slots = {slot: copied(values) for slot in names}

    @property
    def slots(self) -> Slots:
        """What a checkpoint keeps."""
        return self._slots

    @property
    def chosen(self) -> Pieces | None:
        """The pieces that are evaluated instead of the trained ones; None without an average."""
        return self._slots.get(AVERAGE)

    @torch.no_grad()
    def update(self, values: Mapping[str, Piece]) -> None:
        """Move towards the parameters after an optimizer step."""
        self.updates += 1
        n = self.updates
        for slot, pieces in self._slots.items():
            decay = min(self._decay, (1 + n) / (10 + n)) if slot == AVERAGE else decay_of(self._exponents[slot], n)
            if pieces:  # a rank may hold none
                slow = [piece.values for piece in pieces.values()]
                torch._foreach_lerp_(slow, [values[name].values.detach() for name in pieces], 1 - decay)

    def load(self, find: Find, layout: Mapping[str, Piece], updates: int) -> None:
        """Go on from a saved state that was written by any number of ranks."""
        self.updates = updates
        self._slots = {slot: recut(find, slot, layout) for slot in self._slots}
