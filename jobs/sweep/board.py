"""What is known of every trial while the sweep runs and after it."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ray.tune import Callback
from ray.tune.experiment import Trial

from cluster.metrics import Meter
from cluster.progress import Task


@dataclass
class TrialRow:
    """One trial."""

    trial: int
    parameters: dict[str, Any]
    status: Literal["waiting", "running", "complete", "stopped early", "failed"] = "waiting"
    steps: int = 0
    value: float = math.nan
    seconds: float = 0.0
    error: str | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A dictionary without NaN, which JSON does not have."""
        data = asdict(self)
        data["value"] = self.value if math.isfinite(self.value) else None
        return data


class TrialBoard(Callback):  # type: ignore[misc]  # Ray has no types to subclass
    """Follows the trials through Tune's callbacks and keeps the best value of each."""

    def __init__(
        self, chosen: list[dict[str, Any]], *, metric: str, mode: str, steps: int, bar: Task, meter: Meter
    ) -> None:
        super().__init__()
        self._rows = [TrialRow(number, point) for number, point in enumerate(chosen)]
        self._meter = meter
        self._metric, self._sign, self._steps, self._bar = metric, 1.0 if mode == "min" else -1.0, steps, bar

    def __getstate__(self) -> dict[str, Any]:
        """For Tune's own record of the experiment: the rows, not the terminal and the meter."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_bar", "_meter")}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has a process."""
        self._row(trial).status = "running"
        self._count_running()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial was evaluated."""
        if "objective" not in result:
            return
        row = self._row(trial)
        row.steps, row.seconds = int(result["step"]), float(result["seconds"])
        value = float(result["objective"])
        row.curve.append((row.steps, value))
        if math.isfinite(value) and not self._sign * row.value <= self._sign * value:
            row.value = value

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has ended, by itself or because the scheduler ended it."""
        row = self._row(trial)
        row.status = "complete" if row.steps >= self._steps else "stopped early"
        self._end("finished" if row.status == "complete" else "stopped")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed; the sweep goes on."""
        row = self._row(trial)
        row.status = "failed"
        row.error = str(trial.get_error() or "unknown").strip().splitlines()[-1]
        self._end("failed")

    def ranked(self) -> list[TrialRow]:
        """All trials, best first; those without a value last."""
        return sorted(self._rows, key=lambda row: (not math.isfinite(row.value), self._sign * row.value, row.trial))

    def _row(self, trial: Trial) -> TrialRow:
        number: int = trial.config["trial"]
        return self._rows[number]

    def _count_running(self) -> None:
        self._meter.set("equi_trials_running", sum(row.status == "running" for row in self._rows))

    def _end(self, outcome: str) -> None:
        best = self.ranked()[0]
        self._count_running()
        self._meter.add("equi_trials", 1, outcome=outcome)
        if math.isfinite(best.value):
            self._meter.set("equi_sweep_best", best.value, metric=self._metric)
        self._bar.advance(1, best=f"{self._metric} {best.value:.4g} (trial {best.trial})")
