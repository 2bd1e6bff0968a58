"""How the stream of samples is cut into batches. Every batch is a stretch of the stream, so the place of a cut is all.

Here a step is one micro-batch of each rank; an optimizer step is one of them or several. A step of W ranks takes W
consecutive shares of the stream, rank r the r-th. By count, a step is `samples` samples, shared as evenly as whole
samples can be. By budget, a share is as many samples as fit (next fit: the first that does not fit begins the next
share). Where a step starts and how many ranks there are decides every later cut, so a reader that is resumed at a step
needs to remember nothing else. Shapes: n samples of a stretch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError

Integers = NDArray[np.int64]


class Cutter(Protocol):
    """Cuts one stretch of the stream after another, beginning at a step."""

    def cut(self, count: int, weights: Mapping[str, Integers]) -> list[int]:
        """How many samples of the next stretch come before each cut, ascending; what follows the last cut stays open.

        count: n. weights: what each sample weighs, (n,) by quantity.
        """
        ...


@dataclass(frozen=True)
class Count:
    """`samples` a step, all ranks together."""

    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"a batch of {self.samples} samples", allowed="at least 1")

    def cutter(self, world: int) -> "CountCutter":
        """The cutter for this many ranks. Raises UserError where some would be without a sample."""
        if self.samples < world:
            raise UserError(f"a batch of {self.samples} samples cannot be shared by {world} ranks")
        return CountCutter(self.samples, world)


@dataclass(frozen=True)
class Budget:
    """As many samples a rank and step as stay within each limit that is given."""

    atoms: int | None = None
    edges: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.atoms is None and self.edges is None:
            raise UserError("a budget without a limit", allowed="atoms, edges, or both; samples beside them")
        wrong = [name for name, limit in vars(self).items() if limit is not None and limit < 1]
        if wrong:
            raise UserError(f"a budget of {getattr(self, wrong[0])} {wrong[0]}", allowed="at least 1")

    @property
    def limits(self) -> dict[str, int]:
        """The limited quantities that samples weigh."""
        return {name: limit for name in ("atoms", "edges") if (limit := getattr(self, name)) is not None}

    def cutter(self, world: int) -> "BudgetCutter":
        """The cutter; it is the same for any number of ranks."""
        return BudgetCutter(self)


class CountCutter:
    """Share r of step k ends after k B + floor((r + 1) B / W) samples: B samples a step, W ranks."""

    def __init__(self, samples: int, world: int) -> None:
        self._ends = np.array([(rank + 1) * samples // world for rank in range(world)])
        self._samples, self._done = samples, 0  # samples of the open step that earlier stretches held

    def cut(self, count: int, weights: Mapping[str, Integers]) -> list[int]:
        """See `Cutter`; a cut at the very end of the stretch is made at once."""
        steps = np.arange((self._done + count) // self._samples + 1)
        ends = (steps[:, None] * self._samples + self._ends).ravel() - self._done
        self._done = (self._done + count) % self._samples
        return [int(end) for end in ends[(ends > 0) & (ends <= count)]]


class BudgetCutter:
    """Next fit. A sample that exceeds a limit by itself gets a share of its own: whoever reads refuses it before."""

    def __init__(self, budget: Budget) -> None:
        self._limits, self._samples = budget.limits, budget.samples
        self._count, self._held = 0, dict.fromkeys(self._limits, 0)  # of the open share

    def cut(self, count: int, weights: Mapping[str, Integers]) -> list[int]:
        """See `Cutter`; a share that is just full stays open until the next sample is known not to fit."""
        sums = {name: np.concatenate([[0], np.cumsum(weights[name])]) for name in self._limits}
        found: list[int] = []
        begin = 0
        while (end := self._end(sums, begin)) < count:
            found.append(end)
            begin, self._count, self._held = end, 0, dict.fromkeys(self._limits, 0)
        self._count += count - begin
        for name, total in sums.items():
            self._held[name] += int(total[count] - total[begin])
        return found

    def _end(self, sums: Mapping[str, Integers], begin: int) -> int:
        """How many samples of the stretch come before the end of the share that is open at `begin`."""
        ends = []
        for name, total in sums.items():
            room = self._limits[name] - self._held[name]
            ends.append(int(np.searchsorted(total, total[begin] + room, side="right")) - 1)
        if self._samples is not None:
            ends.append(begin + self._samples - self._count)
        return max(min(ends), begin if self._count else begin + 1)
