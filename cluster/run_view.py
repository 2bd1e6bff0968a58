"""How runs are shown: plain data for `--json`, rows and facts for people."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cluster.errors import NotFoundError
from cluster.progress import line_of
from cluster.run_log import NAME
from cluster.run_status import Judgement
from cluster.runs import RunRecord, key
from cluster.store import Store

COLUMNS = ("run", "kind", "status", "created", "took", "why")


def row_of(record: RunRecord, verdict: Judgement) -> tuple[Any, ...]:
    """One line of `equi runs`."""
    return record.id, record.kind, verdict.status, record.created, took(record), why(record, verdict)


def why(record: RunRecord, verdict: Judgement) -> str:
    """What is behind the status: the error with its rank, the reason of a verdict, what came out."""
    if record.error is not None:
        rank = "" if record.error.rank is None else f"rank {record.error.rank}: "
        message = record.error.message
        # A worker's own words may begin with its rank already.
        return message if message.startswith(rank) else f"{rank}{message}"
    if verdict.reason:
        return verdict.reason
    if record.stop_requested and not record.is_over:
        return "asked to stop"
    return ", ".join(f"{name} {value}" for name, value in record.outputs.items() if isinstance(value, str))


def took(record: RunRecord, now: datetime | None = None) -> str:
    """Duration of the latest attempt so far, as people say it."""
    if record.started is None:
        return ""
    seconds = ((record.ended or now or datetime.now(UTC)) - record.started).total_seconds()
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def described(record: RunRecord, verdict: Judgement) -> dict[str, Any]:
    """The record as JSON, with the verdict as its status."""
    data: dict[str, Any] = record.model_dump(mode="json")
    return {**data, "status": verdict.status, "reason": verdict.reason}


def log_place(store: Store, record: RunRecord) -> str:
    """Where the log is, for people."""
    if record.where.mode == "local" and record.where.log:
        return record.where.log
    return f"{store.uri}/{key(record.id, NAME)}"


def facts_of(store: Store, record: RunRecord, verdict: Judgement) -> dict[str, Any]:
    """What `equi status` prints; empty facts are left out."""
    where = record.where
    place = f"process {where.pid} on {where.host}" if where.pid else "a process on its way"
    if where.mode == "cluster":
        place = f"Ray job {where.submission_id} on {where.address}"
    return {
        "run": record.id,
        "kind": record.kind,
        "name": record.name,
        "status": verdict.status,
        "why": why(record, verdict) if verdict.status != "succeeded" else "",
        "attempt": record.attempt,
        "created": record.created,
        "took": took(record),
        "where": place,
        "log": log_place(store, record),
        "code version": record.code_version,
        "outputs": record.outputs,
    }


def read_progress(store: Store, run_id: str) -> dict[str, Any] | None:
    """The run's progress.json, or None before it has any."""
    try:
        progress: dict[str, Any] = json.loads(store.read(key(run_id, "progress.json")))
    except NotFoundError:
        return None
    return progress


def progress_lines(progress: Mapping[str, Any] | None) -> list[str]:
    """One line for each task."""
    return [line_of(task) for task in (progress or {}).get("tasks", [])]
