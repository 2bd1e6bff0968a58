"""Where a worker's training is, readable from another thread: its step, since when, and in which line of ours.

Also when it reached each stage of its start, so that the time to the first step can be told apart.
"""

import sys
import threading
import time
from dataclasses import dataclass, field
from types import FrameType

OURS = ("jobs.", "equimodels.", "cluster.")
NOT_OURS = ("jobs.launch.", "jobs.pulse")


@dataclass(frozen=True)
class Reading:
    """What a pulse says: the step (None before the first), seconds since it began, file and line, and the stages."""

    step: int | None
    seconds: float
    place: str
    stages: dict[str, float] = field(default_factory=dict)  # Unix time of the end of each stage


class Pulse:
    """Kept by the thread that trains, read by the one that answers the driver."""

    def __init__(self) -> None:
        self._step: int | None = None
        self._since = time.monotonic()
        self._thread = threading.get_ident()
        self._stages: dict[str, float] = {}

    def at(self, step: int) -> None:
        """The calling thread begins this step."""
        self._stages.setdefault("ready" if self._step is None else "first step", time.time())
        self._step, self._since, self._thread = step, time.monotonic(), threading.get_ident()

    def passed(self, stage: str) -> None:
        """The calling thread has done this part of the start; only the first time counts."""
        self._stages.setdefault(stage, time.time())
        self._since, self._thread = time.monotonic(), threading.get_ident()

    def reading(self) -> Reading:
        """Where it is now; called from another thread."""
        place = _place(sys._current_frames().get(self._thread))
        return Reading(self._step, time.monotonic() - self._since, place, dict(self._stages))


def _place(frame: FrameType | None) -> str:
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(OURS) and not module.startswith(NOT_OURS):
            return f"{module.replace('.', '/')}.py:{frame.f_lineno}"
        frame = frame.f_back
    return ""
