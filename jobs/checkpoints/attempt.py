"""Which group of workers may write: each that starts takes the next number, and the one with the highest counts.

A worker that was frozen or cut off may wake up long after others took over; its number tells it so before it commits or
sweeps, and keeps its files apart from theirs at any time.
"""

from typing import Any

from cluster.store import Store, read_json, swap_json
from cluster.store.keys import join
from jobs.checkpoints.errors import OutdatedAttemptError
from jobs.checkpoints.layout import ATTEMPT


def claim(store: Store, home: str) -> int:
    """Take the next number, by compare-and-swap; called once by the leading rank."""

    def following(now: dict[str, Any] | None) -> dict[str, Any]:
        return {"attempt": (now or {}).get("attempt", 0) + 1}

    return int(swap_json(store, join(home, ATTEMPT), following, attempts=64)["attempt"])


def require_current(store: Store, home: str, attempt: int) -> None:
    """Raise OutdatedAttemptError where somebody has taken a later number."""
    now = int(read_json(store, join(home, ATTEMPT))["attempt"])
    if now != attempt:
        raise OutdatedAttemptError(f"attempt {now} at this run has taken over from attempt {attempt}")
