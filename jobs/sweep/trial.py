"""One trial of a sweep, in a process of Ray Tune: the training loop as everywhere, reporting to the scheduler."""

import time
from collections.abc import Mapping
from typing import Any

from ray import tune

from jobs.state.piece import Slots
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

    def happened(self, step: int, what: str, details: Mapping[str, Any]) -> None:
        """Nobody looks at the events of a trial."""


class NoCheckpoints:
    """A trial that dies is begun again: it is shorter than the interval between two checkpoints."""

    def newest(self) -> None:
        """There is none."""

    def save(
        self, step: int, slots: Slots, shapes: Mapping[str, tuple[int, ...]], notes: Mapping[str, Any], *, best: bool
    ) -> None:
        """Keep nothing."""

    def finish(self) -> None:
        """Nothing is under way."""


def run_trial(config: dict[str, Any], shared: dict[str, Any]) -> None:
    """The function that Tune calls in the trial's process. `config` holds one index into what all trials share."""
    task = Assignment(shared["store"], shared["run_id"], 0, shared["resolved"][config["trial"]])
    work(task, World(), recorder=TuneRecorder(shared["metric"]), checkpoints=NoCheckpoints())
