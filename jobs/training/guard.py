"""Which steps are left out: gradients that are no numbers, or far above what they have been.

The norm of the gradients is the same on every rank, and a rank whose loss is no number spoils it for all of them: so
all ranks decide alike without asking each other.
"""

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

WINDOW = 100  # norms that are remembered
FIRST = 20  # norms before which nothing counts as a spike: the first steps of a run are unlike the rest


def taken(norm: float, limit: float) -> bool:
    """Whether a step whose gradients have this norm changes anything."""
    return math.isfinite(norm) and norm <= limit


class StepGuard:
    """Remembers the norms of the steps that were taken and counts those that were not."""

    def __init__(self, spike: float | None, budget: int) -> None:
        self._spike, self._budget = spike, budget
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self.skipped = 0

    @property
    def limit(self) -> float:
        """The largest norm with which a step is taken: `spike` times the median of the last norms, or infinity."""
        if self._spike is None or len(self._norms) < FIRST:
            return math.inf
        return self._spike * median(self._norms)

    @property
    def spent(self) -> bool:
        """Whether more steps were left out than the budget allows; a budget of 0 ends the run at the first one."""
        return self.skipped > self._budget

    def took(self, norm: float) -> bool:
        """Whether the step with this norm was taken. Must be told of every step, after it."""
        took = taken(norm, self.limit)
        if took:
            self._norms.append(norm)
        else:
            self.skipped += 1
        return took

    def state(self) -> dict[str, Any]:
        """As JSON, to the bit."""
        return {"norms": list(self._norms), "skipped": self.skipped}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self._norms = deque((float(norm) for norm in state["norms"]), maxlen=WINDOW)
        self.skipped = int(state["skipped"])
