"""What a failure of a training run was, and what to do about it. Pure: no Ray, no clock, no store.

The budget counts failures in a row that brought the run no further. A newer committed checkpoint than at the last one
renews it, so that a run of days outlives a failure a day, while one that dies at the same place again and again ends
soon. Renewal cannot go on for ever, since each time the run comes one checkpoint closer to its end.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STORE_PAUSE_S = 15.0


class Cause(StrEnum):
    """Why the workers came to an end before the run did. In the order of precedence when ranks disagree."""

    DIVERGED = "diverged"
    REFUSED = "refused"  # the user can put it right: a spec, a dataset, a setting
    OUT_OF_MEMORY = "out of memory"
    PREEMPTED = "preempted"
    NO_ROOM = "no room"  # the places of the workers were taken by others before they had started
    NODE_LOST = "node lost"
    KILLED = "worker killed"
    STORE = "store down"
    ERROR = "error"  # an exception of the training code
    HUNG = "hung collective"
    ECHO = "peer gone"  # a rank that only lost the connection to one of the others


@dataclass(frozen=True)
class Symptom:
    """What one rank left behind: the class of its exception and its words, or how its process ended.

    rank: None where it was not a worker that failed but what leads them.
    """

    rank: int | None
    kind: str  # name of the exception's class
    text: str
    bases: tuple[str, ...] = ()  # names of the classes that it inherits from

    @property
    def who(self) -> str:
        """In front of its words."""
        return "" if self.rank is None else f"rank {self.rank}: "


@dataclass(frozen=True)
class Failure:
    """One end of the workers. committed: the step of the newest committed checkpoint at that time, 0 without one."""

    cause: Cause
    message: str
    rank: int | None = None
    committed: int = 0


@dataclass(frozen=True)
class Policy:
    """What the spec allows. micro_batch: samples of a micro-batch of one worker; None where batches are budgets."""

    max_restarts: int
    halve_on_out_of_memory: bool = False
    accumulate: int = 1
    micro_batch: int | None = None


@dataclass(frozen=True)
class Retry:
    """Start the workers again, after a pause in seconds."""

    after_s: float


@dataclass(frozen=True)
class RetryWith:
    """Start the workers again with other settings: dotted paths of the spec."""

    changes: Mapping[str, Any]
    why: str


@dataclass(frozen=True)
class GiveUp:
    """End the run, with what the user should read."""

    message: str


Decision = Retry | RetryWith | GiveUp

_OUT_OF_MEMORY = re.compile(
    r"out of memory|bad_alloc|cannot allocate memory|can't allocate memory|not enough memory|low on memory"
    r"|defaultcpuallocator|unable to allocate",
    re.IGNORECASE,
)
_COLLECTIVE = re.compile(r"gloo|nccl|collective|process ?group|tcpstore|c10d|recv operation|send operation", re.I)
_TIMED_OUT = re.compile(r"timed out|timeout|time-out|not arrived", re.IGNORECASE)
_PEER_GONE = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|peer|remote process|ncclremoteerror", re.IGNORECASE
)
_NODE_GONE = re.compile(r"its node has died|node (is dead|was (terminated|preempted|drained))", re.IGNORECASE)
_BY_NAME = {
    "TrainingDivergedError": Cause.DIVERGED,
    "PreemptedError": Cause.PREEMPTED,
    "OutOfMemoryError": Cause.OUT_OF_MEMORY,
    "MemoryError": Cause.OUT_OF_MEMORY,
    "NodeDiedError": Cause.NODE_LOST,
    "DamagedDataError": Cause.REFUSED,
    "UnfinishedCheckpointError": Cause.STORE,  # another rank's part has not come
    "StoreError": Cause.STORE,
    "WorkerGroupStartupTimeoutError": Cause.NO_ROOM,
}
_REFUSED = frozenset({"UserError", "SettingError", "UnknownComponentError", "ValidationError", "NotImplementedError"})
_DIED = frozenset(
    {
        "RayActorError",
        "ActorDiedError",
        "ActorUnavailableError",
        "WorkerCrashedError",
        "OwnerDiedError",
        "WorkerGroupStartupFailedError",
    }
)


_UNCOUNTED = frozenset({Cause.PREEMPTED, Cause.NO_ROOM})


def cause_of(symptom: Symptom) -> Cause:
    """What one rank's end means on its own."""
    names = (symptom.kind, *symptom.bases)
    if (known := next((_BY_NAME[name] for name in names if name in _BY_NAME), None)) is not None:
        return known
    if _REFUSED.intersection(names):
        return Cause.REFUSED
    if _OUT_OF_MEMORY.search(symptom.text):
        return Cause.OUT_OF_MEMORY
    if _DIED.intersection(names):
        return Cause.NODE_LOST if _NODE_GONE.search(symptom.text) else Cause.KILLED
    if _COLLECTIVE.search(symptom.text) and _TIMED_OUT.search(symptom.text):
        return Cause.HUNG
    if "DistNetworkError" in names or (_COLLECTIVE.search(symptom.text) and _PEER_GONE.search(symptom.text)):
        return Cause.ECHO
    return Cause.ERROR


def classify(symptoms: Sequence[Symptom], *, committed: int = 0) -> Failure:
    """The failure behind what the ranks left: the first cause, in the words of the lowest rank that has it."""
    order = list(Cause)
    first = min(symptoms, key=lambda symptom: (order.index(cause_of(symptom)), symptom.rank or 0))
    cause = cause_of(first)
    if cause is Cause.ECHO:  # whoever has gone took its words along
        return Failure(Cause.KILLED, f"a process of the run is gone ({first.who}{_line(first)})", None, committed)
    return Failure(cause, first.who + _words(first, cause), first.rank, committed)


def _words(symptom: Symptom, cause: Cause) -> str:
    """One line. Of a death that Ray only noticed it tells twenty, with what may have been the cause."""
    if cause is Cause.KILLED:
        whose = "the process that leads the workers" if symptom.rank is None else "its process"
        return f"{whose} died: killed, out of memory, or crashed in native code"
    if cause is Cause.NODE_LOST:
        return "its node is gone"
    return _line(symptom)


def _line(symptom: Symptom) -> str:
    lines = [line.strip() for line in symptom.text.splitlines() if line.strip()] or ["no words"]
    return f"{symptom.kind}: {lines[0]}"


def decide(history: Sequence[Failure], policy: Policy) -> Decision:
    """What to do after the last failure of `history`, which is of the whole attempt, oldest first."""
    last = history[-1]
    if last.cause in (Cause.DIVERGED, Cause.REFUSED):
        return GiveUp(last.message)  # the same numbers would come again
    if last.cause in _UNCOUNTED:
        return Retry(0.0)  # nobody's fault, and the checkpoint is there
    if last.cause is Cause.OUT_OF_MEMORY and policy.halve_on_out_of_memory and policy.micro_batch:
        if policy.micro_batch % 2 == 0:
            why = f"out of memory with micro-batches of {policy.micro_batch}; on with {policy.micro_batch // 2}"
            return RetryWith({"strategy.accumulate": 2 * policy.accumulate}, why)
        return GiveUp(last.message + knobs(policy))
    spent = _since_progress(history)
    advice = knobs(policy) if last.cause is Cause.OUT_OF_MEMORY else ""
    if len(spent) > policy.max_restarts:
        return GiveUp(last.message + _tried(len(spent) - 1) + advice)
    if len(spent) > 1 and last.cause in (Cause.ERROR, Cause.OUT_OF_MEMORY) and spent[-2].message == last.message:
        return GiveUp(last.message + " (twice, at the same place)" + advice)
    if last.cause is Cause.STORE:
        return Retry(STORE_PAUSE_S)  # its own patience has passed already
    return Retry(0.0 if len(spent) == 1 else min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (len(spent) - 2)))


def _since_progress(history: Sequence[Failure]) -> list[Failure]:
    """The failures at the end of `history` that count, and between which no checkpoint lies."""
    counted = [failure for failure in history if failure.cause not in _UNCOUNTED]
    return [failure for failure in counted if failure.committed >= counted[-1].committed]


def _tried(restarts: int) -> str:
    return f" (after {restarts} restart{'s' if restarts > 1 else ''} without a newer checkpoint)" if restarts else ""


def knobs(policy: Policy) -> str:
    """The three settings that save memory, in the order in which to try them."""
    halved = policy.micro_batch is not None and policy.micro_batch % 2 == 0
    accumulate = f"strategy.accumulate={2 * policy.accumulate} (half the samples at a time)"
    return (
        f"; to need less memory: {accumulate if halved else 'a smaller data.batch'}; "
        "strategy.recompute=true (no activations kept); "
        "or a sharded strategy (fsdp, zero_stage 2 or 3) or precision bf16"
    )


@dataclass(frozen=True)
class Seen:
    """The last that was heard of a rank. step: what it was working on, None before the first; place: in which line."""

    rank: int
    step: int | None
    silent_s: float  # seconds since its process last answered
    since_s: float  # seconds that it had been at that step when it last answered
    place: str = field(default="", compare=False)
    process: str = field(default="", compare=False)  # where to look for it


SILENT = 0.8  # of the limit: a process that lives answers every second or so, whatever its training does


def missing(seen: Sequence[Seen], limit_s: float) -> list[Seen]:
    """The ranks that the others wait for: those that answer no more, or else those behind the furthest."""
    silent = [one for one in seen if one.silent_s >= SILENT * limit_s]
    if silent:
        return silent
    steps = [-1 if one.step is None else one.step for one in seen]
    return [one for one, step in zip(seen, steps, strict=True) if step < max(steps)]


def hung(seen: Sequence[Seen], limit_s: float, *, committed: int = 0) -> Failure:
    """A collective that nobody left within its limit, in words that name who has not come."""
    steps = [one.step for one in seen if one.step is not None]
    where = f"at step {max(steps)}" if steps else "before the first step"
    absent = missing(seen, limit_s)
    if not absent:
        text = (
            f"all {len(seen)} ranks wait for each other {where} for more than {limit_s:g} s; they are in "
            + "; ".join(f"rank {one.rank}: {one.place or 'an unknown place'}" for one in seen)
        )
        return Failure(Cause.HUNG, text, None, committed)
    text = "; ".join(_absence(one, where, limit_s) for one in absent)
    return Failure(Cause.HUNG, text, absent[0].rank, committed)


def _absence(one: Seen, where: str, limit_s: float) -> str:
    at = "before its first step" if one.step is None else f"at step {one.step}"
    silent = one.silent_s >= SILENT * limit_s
    seconds = one.silent_s if silent else one.silent_s + one.since_s
    how = "its process answers no more" if silent else f"it is in {one.place or 'an unknown place'}"
    how += f" ({one.process})" if one.process else ""
    return f"rank {one.rank} has not arrived {where} within {limit_s:g} s; last seen {at}, {seconds:.0f} s ago; {how}"
