"""An average of a width that was not taken along the run, put together from the checkpoints that are kept."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jobs.ports import Saved
from jobs.training.posthoc import PREFIX, Snapshot, mixture, slot_of


def reconstruct(kept: Sequence[Saved], width: float) -> Saved:
    """The newest of these checkpoints with one slot: the power-function average of this relative width.

    Numbers are read and mixed when they are asked for. Raises ValueError where the checkpoints hold no such averages,
    or the width is impossible.
    """
    newest = max(kept, key=lambda saved: saved.step)
    places = [(saved, slot) for saved in kept for slot in saved.slots if slot.startswith(PREFIX)]
    if not places:
        raise ValueError("the checkpoints hold no averages of chosen widths; see schedule.posthoc_ema")
    snapshots = [Snapshot(int(saved.notes["updates"]), float(slot.removeprefix(PREFIX))) for saved, slot in places]
    weights = mixture(snapshots, Snapshot(int(newest.notes["updates"]), width))

    def find(slot: str, parameter: str, start: int, stop: int) -> Tensor:
        if slot != slot_of(width):
            raise KeyError(slot)
        total = torch.zeros(stop - start, dtype=torch.float64)  # weights are of both signs
        dtype = torch.float32
        for (saved, held), weight in zip(places, weights, strict=True):
            values = saved.find(held, parameter, start, stop)
            total += weight * values.double()
            dtype = values.dtype
        return total.to(dtype)

    return replace(newest, slots=(slot_of(width),), find=find)
