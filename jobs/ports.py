"""What the training loop says to the world outside, and how it remembers; it knows nothing else of the platform."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jobs.state.piece import Find, Slots


class Recorder(Protocol):
    """Where measurements go."""

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics at a step, named like `train/loss`. Called on the leading rank."""
        ...

    def progressed(self, step: int, values: Mapping[str, float]) -> None:
        """Where the run is now; called after every step on the leading rank, so it must be cheap."""
        ...

    def happened(self, step: int, what: str, details: Mapping[str, Any]) -> None:
        """Something worth a mark on the curves: `skipped`, `best`, `resumed`. Called on the leading rank."""
        ...


@dataclass(frozen=True)
class Saved:
    """A committed checkpoint: the step after which it was taken, the loop's notes, and any stretch of its numbers."""

    step: int
    notes: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    slots: tuple[str, ...]
    find: Find
    model: Mapping[str, Any] | None = None  # its description as JSON, where the writer said it


class Checkpoints(Protocol):
    """Committed checkpoints of the run."""

    def newest(self) -> Saved | None:
        """The newest committed checkpoint, or None. Called on every rank; all get the same."""
        ...

    def save(
        self, step: int, slots: Slots, shapes: Mapping[str, tuple[int, ...]], notes: Mapping[str, Any], *, best: bool
    ) -> None:
        """Copy this rank's pieces; they are written and committed behind the training. Called on every rank.

        best: whether this is the best checkpoint so far; only then has the slot `best` changed since the last one.
        Waits for the one before; raises what went wrong with it.
        The step that was resumed from may be saved again: the new checkpoint takes the place of the old one.
        """
        ...

    def finish(self) -> None:
        """Wait until everything that was saved is committed; raises what went wrong. Called on every rank."""
        ...


def never() -> bool:
    """Nobody asks a run to stop."""
    return False


@dataclass(frozen=True)
class Ports:
    """Everything the loop may call. `stop` says whether this process was asked to end soon."""

    recorder: Recorder
    checkpoints: Checkpoints
    stop: Callable[[], bool] = never
