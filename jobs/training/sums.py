"""What the micro-batches of one step add up to on this rank, and which of them had the largest loss."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from equimodels.models.images import ImageBatch
from equimodels.objectives.energy_force import LabelledGraph
from jobs.data.order import Integers

RATE = "_per_second"


class StepSums:
    """Metrics as (sum, count), what the step contained, and the rows behind the largest loss."""

    def __init__(self) -> None:
        self._metrics: dict[str, Tensor] = {}
        self._contents: dict[str, float] = {}
        self._parts: list[tuple[Tensor, Integers]] = []

    @property
    def size(self) -> float:
        """What the cost of the step grows with: atoms, images, or samples where nothing else is known."""
        return sum(self._contents.values()) or float(sum(len(rows) for _, rows in self._parts))

    def add(self, loss: Tensor, metrics: Mapping[str, Tensor], batch: Any, rows: Integers) -> None:
        """One more micro-batch. metrics: (2,) each, a sum and a count. Does not wait for the device."""
        for name, value in metrics.items():
            self._metrics[name] = self._metrics[name] + value if name in self._metrics else value
        self.contains(contents(batch))
        self._parts.append((loss.detach(), rows))

    def contains(self, amounts: Mapping[str, float]) -> None:
        """The step contained these, too; the same names on every rank."""
        for name, amount in amounts.items():
            self._contents[name] = self._contents.get(name, 0.0) + amount

    def tensors(self) -> dict[str, Tensor]:
        """All of it, float64 on the CPU, for the sum over the ranks: the metrics, and contents as `..._per_second`."""
        names = sorted(self._metrics)
        together = torch.stack([self._metrics[name].double() for name in names]).cpu()  # one transfer
        amounts = {name + RATE: torch.tensor(amount, dtype=torch.float64) for name, amount in self._contents.items()}
        return dict(zip(names, together, strict=True)) | amounts

    def largest(self) -> tuple[float, Integers]:
        """The largest loss of a micro-batch, infinity for one that is no number, and the rows it came from."""
        losses = [float(loss) for loss, _ in self._parts]
        losses = [loss if math.isfinite(loss) else math.inf for loss in losses]
        place = max(range(len(losses)), key=losses.__getitem__)
        return losses[place], self._parts[place][1]


def described(sums: Mapping[str, Tensor], seconds: float) -> dict[str, float]:
    """Sums over all ranks for people: means of the metrics, and contents a second of what there was any of."""
    found = {}
    for name, value in sums.items():
        if not name.endswith(RATE):
            total, count = value.tolist()
            found[name] = total / count if count else math.nan
        elif amount := value.item():
            found[name] = amount / seconds
    return found


def contents(batch: Any) -> dict[str, int]:
    """What people count in a batch beside samples: atoms or images; nothing in a batch of another kind."""
    if isinstance(batch, LabelledGraph):
        return {"atoms": len(batch.graph.numbers)}
    if isinstance(batch, ImageBatch):
        return {"images": len(batch.pixels)}
    return {}
