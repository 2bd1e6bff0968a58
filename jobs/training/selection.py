"""Which evaluation was the best, and whether there is still hope for a better one."""

import math
from collections.abc import Mapping
from typing import Any

from jobs.spec.optimizer import EarlyStop


class Selection:
    """Follows one metric. The best is the best by any amount; early stopping asks for more than `min_delta`."""

    def __init__(self, metric: str, mode: str, early_stop: EarlyStop | None) -> None:
        self.metric = metric
        self._sign = 1.0 if mode == "min" else -1.0
        self._early_stop = early_stop
        self.step, self.value = 0, math.nan
        self._mark, self._stale = math.nan, 0  # the last value that counted as progress; evaluations since

    @property
    def hopeless(self) -> bool:
        """Whether the last `patience` evaluations brought no progress."""
        return self._early_stop is not None and self._stale >= self._early_stop.patience

    def judge(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether this evaluation is the best so far. A value that is no number never is.

        Raises KeyError, naming what is measured, where the metric is not.
        """
        if self.metric not in metrics:
            raise KeyError(f"{self.metric} is not measured; measured: {', '.join(sorted(metrics))}")
        value, delta = metrics[self.metric], self._early_stop.min_delta if self._early_stop else 0.0
        if self._above(value, self._mark, delta):
            self._mark, self._stale = value, 0
        else:
            self._stale += 1
        better = self._above(value, self.value, 0.0)
        if better:
            self.step, self.value = step, value
        return better

    def _above(self, value: float, before: float, delta: float) -> bool:
        """Whether `value` is better than `before` by more than `delta`; than nothing, every finite one is."""
        return math.isfinite(value) and (math.isnan(before) or self._sign * value < self._sign * before - delta)

    def state(self) -> dict[str, Any]:
        """As JSON, which has no NaN: None stands for it."""
        known = {"value": self.value, "mark": self._mark}
        return {
            "step": self.step,
            "stale": self._stale,
            **{name: None if math.isnan(value) else value for name, value in known.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.step, self._stale = int(state["step"]), int(state["stale"])
        self.value, self._mark = (math.nan if state[name] is None else float(state[name]) for name in ("value", "mark"))
