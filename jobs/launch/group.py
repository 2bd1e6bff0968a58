"""One start of the workers on Ray Train: it places and starts them, makes them ranks, and says how they ended.

What Ray Train does not tell (where each rank is, that all should save) goes over the board beside it. It is told to
start workers once, whatever becomes of them; whether they are started again is decided by cause, in `jobs.failure`.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.train.v2.api.exceptions import TrainingFailedError

from jobs.failure import Seen, Symptom
from jobs.launch.board import SOON, Board, Listener
from jobs.launch.meeting import JOIN_S, Meeting
from jobs.launch.places import give_back
from jobs.launch.symptoms import symptoms_of
from jobs.launch.trainer import Trainer, trainer_of
from jobs.pulse import Reading

LOOK_S = 1.0  # between two looks at the board
CLOSE_S = 15.0  # for processes to end


@dataclass(frozen=True)
class Finished:
    """All ranks came to the end; what the leading one knows."""

    outcome: dict[str, Any]
    readings: tuple[Reading | None, ...]


@dataclass(frozen=True)
class Failed:
    """At least one rank did not."""

    symptoms: tuple[Symptom, ...]
    seen: tuple[Seen, ...]
    traces: tuple[str, ...]
    overdue: bool = False  # nobody failed, but a process has answered no more for longer than any collective may take


End = Finished | Failed


class WorkerGroup:
    """So many workers with these resources each; started at once, told later what to do.

    board: of this start alone. folder: for what Ray Train writes. timeout: seconds after which a rank that waits for
    the others raises. grace: from SIGTERM to a worker's end. prepare: modules to import meanwhile.
    """

    def __init__(
        self,
        size: int,
        resources: Mapping[str, float],
        board: Board,
        folder: Path,
        *,
        timeout: float,
        grace: float,
        prepare: Sequence[str] = (),
    ) -> None:
        self.size, self._board, self._since, self._begun = size, board, time.monotonic(), False
        self._board.put("prepare", list(prepare))
        self._listener = Listener(self._board)
        self._ended: Future[Any] = Future()
        meeting = Meeting(board.name, timeout, grace, gpu=resources.get("GPU", 0) > 0)
        trainer = trainer_of(size, resources, board.name, meeting, folder)
        threading.Thread(target=self._fit, args=(trainer,), name="WorkerGroup", daemon=True).start()

    def begin(self, task: dict[str, Any]) -> None:
        """Tell the workers what to do."""
        self._begun = True
        self._board.put("task", task)

    def watch(self, limit: float, each: Callable[[], None]) -> End:
        """Until all have come to the end, or one has failed.

        limit: seconds after which a process that says nothing counts as hung. each: called every second.
        """
        while not self._ended.done():
            wait([self._ended], timeout=LOOK_S)
            self._listener.listen(self.size)
            if self._overdue(limit):
                return Failed((), self.seen(), (), overdue=True)
            each()
        try:
            return Finished(self._ended.result().return_value or {}, tuple(self.readings()))
        except (TrainingFailedError, RayError) as error:
            found = list(symptoms_of(error))
            traces = (f"{one.who}{trace}" for one, trace in found)
            return Failed(tuple(one for one, _ in found), self.seen(), tuple(traces))

    def stop(self) -> None:
        """Ask all to save a checkpoint and end."""
        self._board.put("stop", SOON)

    def await_end(self, seconds: float) -> None:
        """Wait until all have ended, well or not; so long at most, and not where they have not begun."""
        wait([self._ended], timeout=seconds if self._begun else 0.0)

    def close(self) -> None:
        """End whatever is left of the processes, a frozen one and those of a dead controller too: by their places."""
        deadline = time.monotonic() + (CLOSE_S if self._begun else 0.0)
        while True:
            with suppress(RayError):
                give_back(self._board.places())
            if self._ended.done() or time.monotonic() > deadline:
                break
            self.await_end(LOOK_S)
        if self._ended.done():
            with suppress(RayError):
                self._board.clear()

    @property
    def nodes(self) -> frozenset[str]:
        """Ids of the nodes where workers are, as far as they have said so."""
        return self._listener.nodes

    def seen(self) -> tuple[Seen, ...]:
        """The last that was heard of every rank."""
        found = []
        for rank, said in enumerate(self.readings()):
            reading = said or Reading(None, 0.0, "")
            silence, process = self._listener.silence(rank), self._listener.process(rank)
            found.append(Seen(rank, reading.step, silence, reading.seconds, reading.place, process))
        return tuple(found)

    def readings(self) -> list[Reading | None]:
        """What each rank said last."""
        return [self._listener.reading(rank) for rank in range(self.size)]

    def _overdue(self, limit: float) -> bool:
        if None in self.readings() and time.monotonic() - self._since > JOIN_S + limit:
            return True  # it never came so far that it could be heard
        return any(one.silent_s > limit for one in self.seen())

    def _fit(self, trainer: Trainer) -> None:
        # In a thread of its own, because it tells nothing before the end. Its handler of Ctrl-C is not set there, which
        # is as well: it stays when training is over, and swallows Ctrl-C from then on.
        try:
            self._ended.set_result(trainer.fit())
        except BaseException as error:
            self._ended.set_exception(error)
