"""What people do with runs: submit, stop, resume. Decided on the record, carried out where the driver is."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from cluster.code_version import code_version
from cluster.errors import ClusterError, ConflictError, UserError
from cluster.head import Head
from cluster.processes import is_alive, start_mark
from cluster.run_status import RESUMABLE
from cluster.runs import (
    RunError,
    RunRecord,
    Where,
    cannot_resume,
    create_run,
    happen,
    judge_run,
    load_run,
    new_run_id,
    next_attempt,
    update_run,
)
from cluster.store import Store
from cluster.submission import start_here, start_on, where_on

STOP_S = 60.0  # a driver closes its Ray session before it says that it has ended
JOB_STOP_S = 45.0  # Ray kills a job 3 s after SIGTERM; a driver hears of stop_requested within 5 s, and saves first


def submit_run(
    store: Store,
    *,
    kind: str,
    name: str,
    spec: str,
    run_id: str | None = None,
    head: Head | None = None,
    home: Path,
    cpus: int | None = None,
) -> RunRecord:
    """Create the run and start its driver, here or on the head. spec: the resolved spec, YAML.

    Raises ConflictError if the id is taken. A driver that cannot be started leaves a failed run that says so.
    """
    run_id = run_id or new_run_id(kind, name)
    record = create_run(
        store,
        kind=kind,
        name=name,
        spec=spec,
        run_id=run_id,
        where=where_on(head, run_id, 1) if head else Where(),
        code_version=code_version(),
    )
    return _start(store, record, head, home, cpus)


def resume_run(
    store: Store, run_id: str, *, head_of: Callable[[RunRecord], Head], home: Path, cpus: int | None = None
) -> RunRecord:
    """Start the next attempt of a run that failed, was stopped or was lost, where the last one was."""
    record, verdict = judge_run(store, load_run(store, run_id))
    if verdict.status not in RESUMABLE:
        raise cannot_resume(record, verdict)
    head = head_of(record) if record.where.mode == "cluster" else None
    where = where_on(head, run_id, record.attempt + 1) if head else Where()
    return _start(store, next_attempt(store, record, verdict, where), head, home, cpus)


def stop_run(store: Store, run_id: str, *, head_of: Callable[[RunRecord], Head], seconds: float = STOP_S) -> RunRecord:
    """Ask the driver to stop and wait until the record says that it has. Raises ConflictError if it has ended."""
    record, verdict = judge_run(store, load_run(store, run_id))
    if record.is_over:
        raise ConflictError(f"run {run_id} has ended already: {record.status}")
    if verdict.status == "lost":
        return happen(store, run_id, "stop", attempt=record.attempt)
    head = head_of(record) if record.where.mode == "cluster" else None
    record = update_run(store, run_id, stop_requested=True)
    if head is not None:
        return _stop_job(store, record, head)
    return _stop_process(store, record, seconds)


def _start(store: Store, record: RunRecord, head: Head | None, home: Path, cpus: int | None) -> RunRecord:
    try:
        if head is None:
            return start_here(store, record, home=home, cpus=cpus)
        start_on(head, store, record)
    except (UserError, OSError) as error:
        happen(store, record.id, "fail", attempt=record.attempt, error=RunError(message=f"not started: {error}"))
        raise
    return record


def _stop_process(store: Store, record: RunRecord, seconds: float) -> RunRecord:
    where = record.where
    alive = is_alive(where.pid, where.pid_started, where.host)
    if alive and where.pid is not None and where.pid_started is not None:
        signal_process(where.pid, where.pid_started)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        record = load_run(store, record.id)
        if record.is_over:
            return record
        where = record.where
        if where.pid is not None and is_alive(where.pid, where.pid_started, where.host) is False:
            return _ended_for_it(store, record)
        time.sleep(0.2)
    raise ClusterError(
        f"run {record.id} has been asked to stop and has not ended within {seconds:.0f} s",
        hint=f"It ends as soon as its driver answers; `equi status {record.id}` tells.",
    )


def _stop_job(store: Store, record: RunRecord, head: Head) -> RunRecord:
    """First by the record, which the driver reads every 5 s and obeys in good order; then by Ray's own means."""
    deadline = time.monotonic() + JOB_STOP_S
    while time.monotonic() < deadline:
        record = load_run(store, record.id)
        if record.is_over:
            return record
        time.sleep(0.5)
    head.stop(record.where.submission_id or "")
    return _ended_for_it(store, load_run(store, record.id))


def _ended_for_it(store: Store, record: RunRecord) -> RunRecord:
    """The driver is gone: say for it that the run was stopped, unless it did so itself in its last moment."""
    if record.is_over:
        return record
    try:
        return happen(store, record.id, "stop", attempt=record.attempt)
    except ConflictError:
        return load_run(store, record.id)


def signal_process(pid: int, started: str) -> None:
    """SIGTERM to exactly that process: the handle is taken before its start is compared."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_mark(pid) == started:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
