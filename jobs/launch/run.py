"""A training run on the session's cluster, from the first start of its workers to the end, through all failures."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ray.exceptions import RayError

from cluster.context import RunContext
from cluster.errors import StoreError, UserError
from cluster.metrics import Meter
from cluster.store.retrying import Patience, persist
from jobs.failure import Cause, Failure, GiveUp, Policy, RetryWith, classify, decide, hung
from jobs.launch.board import Board
from jobs.launch.errors import WorkersFailedError
from jobs.launch.group import Failed, Finished, WorkerGroup
from jobs.launch.nodes import leaving
from jobs.launch.places import Places, reserve
from jobs.launch.shown import shown
from jobs.launch.sizes import larger, sizes
from jobs.launch.stages import Stages
from jobs.recording.events import event, newest_attempt, write_event
from jobs.spec.train import TrainSpec

if TYPE_CHECKING:
    from jobs.build import ResolvedTrain  # imports torch, for which the workers need not wait

GROW_AFTER_S = 20.0  # a start is left in peace so long before it is made larger
Result = TypeVar("Result")
SLACK_S = 15.0  # a process that is only slow answers within a collective's limit and this


def launch(
    spec: TrainSpec, resolve: Callable[[], "ResolvedTrain"], context: RunContext, *, attempt: int
) -> dict[str, Any]:
    """Train on the session's cluster. resolve: looks up what `spec` names, while the workers' processes start.

    Returns what the leading worker knows at the end: steps, best step and value, metrics. The weights are in the last
    checkpoint. Raises WorkersFailedError with the rank and its message when the run cannot go on, UserError where the
    user can put it right.
    """
    run = _Run(spec, resolve, context, attempt)
    with shown(context, spec.schedule.steps):
        return run.to_the_end()


@dataclass
class _Run:
    """What outlives a start of the workers."""

    spec: TrainSpec
    resolve: Callable[[], "ResolvedTrain"]
    context: RunContext
    attempt: int
    history: list[Failure] = field(default_factory=list)
    starts: int = 0

    def to_the_end(self) -> dict[str, Any]:
        while True:
            end = self._start()
            if isinstance(end, Finished):
                return end.outcome
            failure = self._failure(end)
            self.history.append(failure)
            decision = decide(self.history, _policy(self.spec))
            if isinstance(decision, GiveUp):
                raise _error(failure, decision.message, end.traces)
            if isinstance(decision, RetryWith):
                self._told("changed", decision.why, decision.changes)
                self.spec = self.spec.with_changes(decision.changes)
            else:
                self._told("restarted", failure.message, {"cause": failure.cause.value, "rank": failure.rank})
                time.sleep(decision.after_s)
            Meter(run_id=self.context.run_id).add("equi_restarts")

    def _start(self) -> Finished | Failed:
        """One start of the workers, as many as there is room for."""
        self.starts += 1
        spec, resources, stages = self.spec, _resources(self.spec), Stages()
        places = reserve(sizes(spec), resources, waiting=self._waiting(resources))
        stages.passed("places")
        places.give_back()  # Ray Train takes them
        timeout, grace = spec.failure.collective_timeout, spec.failure.grace
        group = WorkerGroup(
            places.size,
            resources,
            Board.new(self.context.run_id),
            self.context.workdir / "ray",
            timeout=timeout,
            grace=grace,
            prepare=_imports(spec),
        )
        growth = _Growth(sizes(spec), places.size, resources)
        try:
            resolved = replace(self.resolve(), spec=spec)
            stages.passed("resolved")
            task = {
                "store": self.context.store.uri,
                "run_id": self.context.run_id,
                "attempt": self.attempt,
                "resolved": resolved.to_json(),
            }
            group.begin(task)
            stages.passed("told")
            return group.watch(timeout + SLACK_S, self._each(group, growth, stages))
        except KeyboardInterrupt:
            group.stop()
            group.await_end(grace)
            raise
        finally:
            growth.close()
            group.close()

    def _each(self, group: WorkerGroup, growth: "_Growth", stages: Stages) -> Callable[[], None]:
        asked = False
        key = self.context.key("starts", f"{self.attempt:03d}-{self.starts:03d}.json")

        def look() -> None:
            nonlocal asked
            with suppress(StoreError):  # only for those who measure the start
                stages.keep(self.context.store, key, group.readings())
            if asked:
                return
            if going := _leaving(group.nodes):
                self.context.progress.say(f"{len(going)} node{'s' * (len(going) > 1)} will be taken away: saving")
                asked = True
            elif (size := growth.possible(running=None not in group.readings())) is not None:
                self.context.progress.say(f"there is room for {size} workers: saving, to go on with them")
                asked = True
            if asked:
                group.stop()

        return look

    def _failure(self, end: Failed) -> Failure:
        limit = self.spec.failure.collective_timeout
        committed = self._patiently(self._committed)
        found = None if end.overdue else classify(end.symptoms, committed=committed)
        if found is None or found.cause is Cause.HUNG:
            return hung(end.seen, limit, committed=committed)
        return found

    def _committed(self) -> int:
        from jobs.checkpoints.commit import committed_steps  # imports torch, as above
        from jobs.checkpoints.layout import home

        return max(committed_steps(self.context.store, home(self.context.run_id)), default=0)

    def _told(self, what: str, why: str, details: Any) -> None:
        self.context.progress.say(f"{what}: {why}")
        self._patiently(lambda: self._write_event(what, {"why": why, **details}))

    def _write_event(self, what: str, details: dict[str, Any]) -> None:
        store, run_id = self.context.store, self.context.run_id
        start = max(newest_attempt(store, run_id), self.attempt)  # that of the workers who have failed
        write_event(store, run_id, event(self.history[-1].committed, what, details, attempt=start))

    def _patiently(self, call: Callable[[], Result]) -> Result:
        """A store that is down is given as long as checkpoints give it."""
        return persist(call, _is_down, Patience(attempts=10**6, seconds=self.spec.checkpoint.patience))

    def _waiting(self, resources: dict[str, float]) -> Callable[[int], None]:
        each = " and ".join(f"{number:g} {name}" for name, number in resources.items())
        told: set[int] = set()

        def tell(size: int) -> None:
            if size not in told:
                told.add(size)
                self.context.progress.say(f"waiting until there is room for {size} workers of {each}")

        return tell


class _Growth:
    """Places for more workers, asked for behind those that run; an autoscaler hears of them too."""

    def __init__(self, possible: list[int], now: int, resources: dict[str, float]) -> None:
        self._size, self._now, self._resources = larger(possible, now), now, resources
        self._since: float | None = None
        self._places: Places | None = None

    def possible(self, *, running: bool) -> int | None:
        """The size to which the run may grow now. running: the workers have their places, and need no more of them."""
        if self._size is None or not running:
            return None
        if self._places is None or self._since is None:
            self._places, self._since = Places.ask(self._size - self._now, self._resources), time.monotonic()
        if time.monotonic() - self._since < GROW_AFTER_S or not self._places.ready():
            return None
        return self._size

    def close(self) -> None:
        """Give the places back: those who start next take them."""
        if self._places is not None:
            self._places.give_back()


def _is_down(error: Exception) -> bool:
    return isinstance(error, StoreError)


def _leaving(nodes: frozenset[str]) -> set[str]:
    try:
        return leaving(nodes)
    except RayError:  # the head does not answer, and can drain nothing
        return set()


def _resources(spec: TrainSpec) -> dict[str, float]:
    wanted = {"CPU": float(spec.resources.cpus_per_worker), "GPU": float(spec.resources.gpus_per_worker)}
    return {name: number for name, number in wanted.items() if number}


def _imports(spec: TrainSpec) -> tuple[str, ...]:
    """What worker processes import before they are told what to do."""
    # torch's optimizers import the compiler, deepspeed all of it: otherwise the first engine takes 4 s of a processor.
    # With GPUs deepspeed would look at them before a worker knows which are its own.
    early = spec.strategy.kind == "deepspeed" and not spec.resources.gpus_per_worker
    return ("jobs.launch.training", "torch._dynamo", *(("deepspeed", "torch._inductor.compile_fx") if early else ()))


def _policy(spec: TrainSpec) -> Policy:
    shares, counted = spec.resources.most * spec.strategy.accumulate, spec.data.batch.counted
    return Policy(
        spec.failure.max_restarts,
        spec.failure.halve_on_out_of_memory,
        spec.strategy.accumulate,
        counted // shares if counted else None,
    )


def _error(failure: Failure, message: str, traces: tuple[str, ...]) -> Exception:
    if failure.cause is Cause.REFUSED:
        return UserError(message)
    error = WorkersFailedError(message, failure.rank)
    for trace in traces:
        error.add_note(trace)
    return error
