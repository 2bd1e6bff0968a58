"""What the training loop says to the world outside, and how it remembers; it knows nothing else of the platform."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Recorder(Protocol):
    """Where measurements go."""

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics at a step, named like `train/loss`. Called on the leading rank."""
        ...

    def progressed(self, step: int, values: Mapping[str, float]) -> None:
        """Where the run is now; called after every step on the leading rank, so it must be cheap."""
        ...


class Checkpoints(Protocol):
    """Committed checkpoints of the run."""

    def newest(self, folder: Path) -> Mapping[str, Any] | None:
        """Fetch the newest committed checkpoint into `folder`; its notes, or None when there is none. On every rank."""
        ...

    def commit(self, step: int, folder: Path, notes: Mapping[str, Any]) -> None:
        """Make what all ranks wrote into their `folder` the newest checkpoint, or nothing at all. On every rank."""
        ...


@dataclass(frozen=True)
class Ports:
    """Everything the loop may call."""

    recorder: Recorder
    checkpoints: Checkpoints
    scratch: Path
