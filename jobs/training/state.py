"""What a training run remembers beside parameters and moments, and how all of it goes into a checkpoint and back.

Tensors go into slots, everything else into the notes, as JSON. What is not here is a function of the spec and the step.
"""

from collections.abc import Mapping
from typing import Any

import torch

from jobs.data.batches import Batches
from jobs.ports import Saved
from jobs.spec.train import TrainSpec
from jobs.state.piece import BEST, VALUE, Pieces, Slots
from jobs.strategy.engine import Engine
from jobs.training.average import Averages
from jobs.training.guard import StepGuard
from jobs.training.pieces import copied, recut
from jobs.training.selection import Selection
from jobs.training.sums import RATE

CPU = torch.device("cpu")


class TrainingState:
    """One run, at `step` finished steps, as this rank sees it."""

    def __init__(self, spec: TrainSpec, engine: Engine) -> None:
        self.step = 0
        self.averages = Averages(spec.schedule.ema, spec.schedule.posthoc_ema, engine.values())
        self.guard = StepGuard(spec.guard.spike, spec.guard.budget)
        self.selection = Selection(*spec.selected_by, spec.schedule.early_stop)
        self.metrics: dict[str, float] = {}  # of the last evaluation
        self.evaluated = 0  # the step of that
        self.latest: dict[str, float] = {}  # what the last step was like
        self.ended = False  # early stopping has ended the run
        self._best: Pieces = {}  # in main memory: it is only written

    def keep_best(self, engine: Engine) -> None:
        """The weights as they are evaluated now are the best so far."""
        chosen = self.averages.chosen
        self._best = copied(engine.values() if chosen is None else chosen, CPU)

    def slots(self, engine: Engine) -> Slots:
        """This rank's part of all that a checkpoint holds: views, valid until the next step."""
        # No evaluation yet, no best: on every rank alike, though some may hold no pieces.
        best = {BEST: self._best} if self.selection.step else {}
        return {VALUE: engine.values(), **engine.moments(), **self.averages.slots, **best}

    def notes(self, engine: Engine, training: Batches) -> dict[str, Any]:
        """The rest of it, the same on every rank."""
        return {
            "step": self.step,
            "counters": engine.counters(),
            "updates": self.averages.updates,
            "guard": self.guard.state(),
            "selection": self.selection.state(),
            "metrics": self.metrics,
            "evaluated": self.evaluated,
            "latest": {name: value for name, value in self.latest.items() if not name.endswith(RATE)},
            "ended": self.ended,
            "reader": training.state(),
        }

    def restore(self, saved: Saved, engine: Engine, training: Batches) -> None:
        """Go on from a checkpoint, written by any number of workers under any strategy."""
        notes: Mapping[str, Any] = saved.notes
        engine.load(saved.find, notes["counters"])
        layout = engine.values()
        self.averages.load(saved.find, layout, int(notes["updates"]))
        self.guard.load_state(notes["guard"])
        self.selection.load_state(notes["selection"])
        self._best = recut(saved.find, BEST, layout, CPU) if self.selection.step else {}
        self.step, self.evaluated = int(notes["step"]), int(notes["evaluated"])
        self.metrics, self.latest, self.ended = dict(notes["metrics"]), dict(notes["latest"]), bool(notes["ended"])
        training.load_state(notes["reader"])
