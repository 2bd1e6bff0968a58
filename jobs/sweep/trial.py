"""One trial of a sweep, in a process of Ray Tune: the training loop as everywhere, reporting to the scheduler."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from jobs.worker import Assignment, work
from jobs.world import World


class TuneRecorder:
    """Sends every evaluation to the scheduler, which may end the trial there."""

    def __init__(self, metric: str) -> None:
        self._metric, self._started = metric, time.monotonic()

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """Report to Tune; the scheduler's decision to stop arrives inside this call."""
        seconds = time.monotonic() - self._started
        tune.report({"step": step, "objective": values[self._metric], "seconds": seconds, **values})

    def progressed(self, step: int, values: Mapping[str, float]) -> None:
        """A trial shows itself at its evaluations only."""


class NoCheckpoints:
    """A trial that dies is begun again: it is shorter than the interval between two checkpoints."""

    def newest(self, folder: Path) -> None:
        """There is none."""

    def commit(self, step: int, folder: Path, notes: Mapping[str, Any]) -> None:
        """Keep nothing."""


def run_trial(config: dict[str, Any], shared: dict[str, Any]) -> None:
    """The function that Tune calls in the trial's process. `config` holds one index into what all trials share."""
    task = Assignment(shared["store"], shared["run_id"], 0, shared["resolved"][config["trial"]])
    work(task, World(), recorder=TuneRecorder(shared["metric"]), checkpoints=NoCheckpoints())
