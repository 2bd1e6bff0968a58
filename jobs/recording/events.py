"""What happened in a run and when: one small file for each event, `runs/<id>/events/<attempt>-<n>.json`.

{"step", "what", "attempt", "at", "details"}. The leading worker writes most of them, the driver those that no worker
lives to tell. What is written is never changed: of two that want the same number the second takes the next one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from cluster.errors import PreconditionFailedError
from cluster.store import Store


@dataclass(frozen=True)
class Event:
    """Something worth a mark on the curves.

    what: skipped, best, resumed, preempted, restarted, ... attempt: which start of the workers, from 1.
    """

    step: int
    what: str
    attempt: int
    at: str  # UTC, ISO 8601
    details: Mapping[str, Any] = field(default_factory=dict)


def event(step: int, what: str, details: Mapping[str, Any], *, attempt: int) -> Event:
    """An event of this moment."""
    return Event(step, what, attempt, datetime.now(UTC).isoformat(timespec="milliseconds"), dict(details))


def write_event(store: Store, run: str, happened: Event) -> None:
    """Add one event to those of the run."""
    body = json.dumps(asdict(happened), default=str).encode()
    number = sum(1 for key in _keys(store, run) if _attempt(key) == happened.attempt)
    while True:
        try:
            store.write(f"runs/{run}/events/{happened.attempt:03d}-{number:05d}.json", body, if_absent=True)
            return
        except PreconditionFailedError:
            number += 1


def read_events(store: Store, run: str) -> list[Event]:
    """All events of a run in the order in which they happened; files of another form are passed over."""
    found = []
    for key in _keys(store, run):
        try:
            found.append(Event(**json.loads(store.read(key))))
        except (TypeError, ValueError):
            continue
    return sorted(found, key=lambda one: one.at)


def newest_attempt(store: Store, run: str) -> int:
    """The highest attempt that wrote an event; 0 before there is any."""
    return max((_attempt(key) for key in _keys(store, run)), default=0)


def _keys(store: Store, run: str) -> list[str]:
    return [key for key in store.list(f"runs/{run}/events") if key.endswith(".json")]


def _attempt(key: str) -> int:
    digits = key.rpartition("/")[2].partition("-")[0]
    return int(digits) if digits.isdigit() else 0
