"""A copy of what a rank holds, taken while training waits; the only part of a checkpoint that it waits for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.checkpoints.index import DTYPES
from jobs.checkpoints.packing import Packing, packed
from jobs.state.piece import Slots


@dataclass(frozen=True)
class Snapshot:
    """The bytes of a file-to-be: `packing.head`, then `body`."""

    packing: Packing
    body: memoryview


class SnapshotBuffer:
    """Memory for one snapshot at a time, used again for the next one.

    Fresh memory costs more than the copy: its pages are found and zeroed on first use. For pieces on a GPU it is
    pinned, so that the copies run at the full speed of the bus, one after the other without waiting.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)

    def take(self, slots: Slots) -> Snapshot:
        """Copy the pieces; what was taken before is overwritten."""
        packing = packed(slots)
        tensors = [slots[place.slot][place.parameter].values for place in packing.places]
        devices = {tensor.device for tensor in tensors if tensor.is_cuda}
        on_gpu = bool(devices)
        if self._memory.numel() < packing.body or (on_gpu and not self._memory.is_pinned()):
            self._memory = torch.empty(packing.body, dtype=torch.uint8, pin_memory=on_gpu)
        for place, tensor in zip(packing.places, tensors, strict=True):
            start = place.offset - len(packing.head)
            self._part(start, place.count, DTYPES[place.dtype]).copy_(tensor.detach().reshape(-1), non_blocking=on_gpu)
        for device in devices:
            torch.cuda.synchronize(device)
        return Snapshot(packing, self._memory.numpy().data[: packing.body])

    def _part(self, start: int, count: int, dtype: torch.dtype) -> Tensor:
        return self._memory[start : start + count * dtype.itemsize].view(dtype)
