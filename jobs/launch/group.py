"""One start of the workers on Ray Train: it places and starts them, makes them ranks, and says how they ended.

What Ray Train does not tell (where each rank is, that all should save) goes over the board beside it. It starts workers
once; whether they are started again is decided by cause, in `jobs.failure`.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.config import LoggingConfig
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from cluster.store import Store
from jobs.failure import Seen, Symptom
from jobs.launch.board import NOW, SOON, Board, Listener
from jobs.launch.meeting import Meeting
from jobs.launch.member import RankFailedError, run
from jobs.pulse import Reading

LOOK_S = 1.0  # between two looks at the board
CLOSE_S = 15.0  # for processes to end
SETTINGS = {  # of Ray Train, which knows no other way to be told
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # how soon the end of a worker is noticed; 2 s unless set
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # `leaving` looks, and the loop saves
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}


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

    timeout: seconds after which a rank that waits for the others raises. grace: from SIGTERM to a worker's end.
    prepare: modules to import meanwhile.
    """

    def __init__(
        self,
        size: int,
        resources: Mapping[str, float],
        store: Store,
        run_id: str,
        *,
        timeout: float,
        grace: float,
        prepare: Sequence[str] = (),
    ) -> None:
        os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
        self.size, self._resources, self._grace = size, dict(resources), grace
        self._board = Board()
        self._board.put("prepare", list(prepare))
        self._listener = Listener(self._board)
        self._ended: Future[Any] = Future()
        trainer = self._trainer(store, run_id, timeout)
        threading.Thread(target=self._fit, args=(trainer,), name="WorkerGroup", daemon=True).start()

    def begin(self, task: dict[str, Any]) -> None:
        """Tell the workers what to do."""
        self._board.put("task", task)

    def watch(self, limit: float, each: Callable[[], None]) -> End:
        """Until all have come to the end, or one has failed.

        limit: seconds after which a process that says nothing counts as hung. each: called every second.
        """
        while not self._ended.done():
            wait([self._ended], timeout=LOOK_S)
            self._listener.listen(self.size)
            each()
            if any(one.silent_s > limit for one in self.seen()):
                return Failed((), self.seen(), (), overdue=True)
        try:
            result = self._ended.result()
            if result.error is not None:
                return self._failed(result.error)
            return Finished(result.return_value or {}, tuple(self.readings()))
        except TrainingFailedError as error:
            return self._failed(error)
        except RayError as error:
            return Failed((_symptom(0, error),), self.seen(), (str(error),))

    def stop(self) -> None:
        """Ask all to save a checkpoint and end."""
        self._board.put("stop", SOON)

    def await_end(self, seconds: float) -> None:
        """Wait until all have ended, well or not; so long at most."""
        wait([self._ended], timeout=seconds)

    def close(self) -> None:
        """End whatever is left of the processes: those that hear it end themselves, Ray Train kills the others."""
        if not self._ended.done():
            self._board.put("stop", NOW)
            self.await_end(CLOSE_S)
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
            found.append(Seen(rank, reading.step, self._listener.silence(rank), reading.seconds, reading.place))
        return tuple(found)

    def readings(self) -> list[Reading | None]:
        """What each rank said last."""
        return [self._listener.reading(rank) for rank in range(self.size)]

    def _fit(self, trainer: TorchTrainer) -> None:
        # In a thread of its own, because it tells nothing before the end. Its handler of Ctrl-C is not set there, which
        # is as well: it stays when training is over, and swallows Ctrl-C from then on.
        try:
            self._ended.set_result(trainer.fit())
        except BaseException as error:
            self._ended.set_exception(error)

    def _trainer(self, store: Store, run_id: str, timeout: float) -> TorchTrainer:
        filesystem, base = store.arrow()
        gpu = self._resources.get("GPU", 0) > 0
        return TorchTrainer(
            run,
            train_loop_config={"board": self._board.name},
            scaling_config=ScalingConfig(
                num_workers=self.size, use_gpu=gpu, resources_per_worker=self._resources, placement_strategy="PACK"
            ),
            torch_config=Meeting(limit=timeout, grace=self._grace, gpu=gpu),
            run_config=RunConfig(
                name=self._board.name,  # nothing of an earlier start is taken up: checkpoints are ours
                storage_path=f"{base}/runs/{run_id}/ray",
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=0),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )

    def _failed(self, error: BaseException) -> Failed:
        failures = error.worker_failures if isinstance(error, WorkerGroupError) else {0: error}
        symptoms = tuple(_symptom(rank, failure) for rank, failure in sorted(failures.items()))
        traces = tuple(f"rank {rank}: {_trace(failure)}" for rank, failure in sorted(failures.items()))
        return Failed(symptoms, self.seen(), traces)


def _symptom(rank: int, error: BaseException) -> Symptom:
    cause = _cause(error)
    if isinstance(cause, RankFailedError):
        return Symptom(rank, cause.kind, cause.text, cause.bases)
    return Symptom(rank, type(cause).__name__, str(cause), tuple(base.__name__ for base in type(cause).__mro__[1:]))


def _trace(error: BaseException) -> str:
    cause = _cause(error)
    return cause.trace if isinstance(cause, RankFailedError) else str(cause)


def _cause(error: BaseException) -> BaseException:
    """What is inside of what Ray Train wraps around it."""
    for name in ("health_check_failure", "_base_exc", "cause"):
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException):
            return _cause(inner)
    return error
