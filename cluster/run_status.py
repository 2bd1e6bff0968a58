"""The life of a run, decided by pure functions: which event leads where, and when a silent run counts as lost.

    pending --start--> running --succeed--> succeeded
       |                  |----fail------> failed
       |----fail, stop----|----stop------> stopped
    failed, stopped, lost --resume--> pending          (the next attempt)

`lost` is a verdict of whoever looks, because a lost run cannot say so itself. A driver that was only cut off
may still end a run that was called lost; one whose run was resumed meanwhile may not (its attempt is over).
"""

from dataclasses import dataclass
from typing import Literal

from cluster.errors import ConflictError

Status = Literal["pending", "running", "succeeded", "failed", "stopped", "lost"]
Event = Literal["start", "succeed", "fail", "stop", "lose", "resume"]

ENDED: frozenset[Status] = frozenset({"succeeded", "failed", "stopped", "lost"})
RESUMABLE: frozenset[Status] = ENDED - {"succeeded"}
SILENT_S = 60.0  # twelve missed heartbeats

_TRANSITIONS: dict[Event, tuple[frozenset[Status], Status]] = {
    "start": (frozenset({"pending"}), "running"),
    "succeed": (frozenset({"running", "lost"}), "succeeded"),
    "fail": (frozenset({"pending", "running", "lost"}), "failed"),
    "stop": (frozenset({"pending", "running", "lost"}), "stopped"),
    "lose": (frozenset({"pending", "running"}), "lost"),
    "resume": (RESUMABLE, "pending"),
}


class StatusError(ConflictError):
    """The event cannot happen to a run of that status."""


def next_status(current: Status, event: Event) -> Status:
    """The status after the event. Raises StatusError where the event is impossible."""
    origins, target = _TRANSITIONS[event]
    if current not in origins:
        raise StatusError(f"a run that is {current} cannot {event}", allowed=", ".join(sorted(origins)))
    return target


@dataclass(frozen=True)
class Judgement:
    """What a run counts as, and why where that is not what its record says."""

    status: Status
    reason: str = ""


def judge(status: Status, *, silent_s: float, pid_alive: bool | None, limit_s: float = SILENT_S) -> Judgement:
    """What a run of that status counts as, seen from here.

    silent_s: seconds since its last heartbeat, or since it was created or started if there was none.
    pid_alive: whether its driver process lives; None where that cannot be seen (another machine, not started).
    """
    if status in ENDED:
        return Judgement(status)
    if pid_alive is False:
        return Judgement("lost", "its driver process is gone")
    if silent_s <= limit_s:
        return Judgement(status)
    if pid_alive:
        return Judgement(status, f"no heartbeat for {silent_s:.0f} s, though its driver process is there")
    return Judgement("lost", f"no heartbeat for {silent_s:.0f} s")
