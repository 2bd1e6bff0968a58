"""The output of a driver while it comes in, and afterwards: from the file, from the head, from the store."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster.errors import ClusterError, NotFoundError, UserError
from cluster.head import Head
from cluster.run_log import NAME, log_path
from cluster.runs import RunRecord, judge_run, key, load_run
from cluster.store import Store

POLL_S = 0.3
JUDGE_EVERY_S = 2.0


def read_log(store: Store, record: RunRecord, *, home: Path, head_of: Callable[[RunRecord], Head]) -> str:
    """What the driver has printed so far, wherever that is. Raises NotFoundError where it is nowhere."""
    path = log_path(store, record.id, home)
    if path.exists():
        return path.read_text(encoding="utf-8", errors="replace")
    if record.where.mode == "cluster" and not record.is_over:
        return head_of(record).logs(record.where.submission_id or "")
    try:
        return store.read(key(record.id, NAME)).decode(errors="replace")
    except NotFoundError as error:
        place = f"on {record.where.host}" if record.where.host else "where its driver was"
        raise NotFoundError(f"run {record.id} has no log here; it may still lie {place}") from error


def follow_log(store: Store, record: RunRecord, *, home: Path, head_of: Callable[[RunRecord], Head]) -> Iterator[str]:
    """The log from its beginning, piece by piece, until the run has ended."""
    path = log_path(store, record.id, home)
    if record.where.mode == "cluster" and not record.is_over:
        try:
            yield from head_of(record).follow(record.where.submission_id or "")
            return
        except UserError as error:
            if not load_run(store, record.id).is_over:
                raise ClusterError(
                    f"the log of run {record.id} cannot be followed: {error.message}",
                    hint=f"`equi status {record.id}` reads the store, not the cluster.",
                ) from error
    if path.exists() or record.where.mode == "local":
        yield from _follow_file(store, record, path)
    else:
        yield read_log(store, record, home=home, head_of=head_of)


def _follow_file(store: Store, record: RunRecord, path: Path) -> Iterator[str]:
    while not path.exists():
        if not _goes_on(store, record):
            raise NotFoundError(f"run {record.id} has no log here")
        time.sleep(POLL_S)
    goes_on, judged = _goes_on(store, record), time.monotonic()
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            if piece := file.read():
                yield piece
            elif not goes_on:
                return
            else:
                time.sleep(POLL_S)
            if goes_on and time.monotonic() - judged >= JUDGE_EVERY_S:
                # Judged before the last read, so that what was written until the end is still shown.
                goes_on, judged = _goes_on(store, record), time.monotonic()


def _goes_on(store: Store, record: RunRecord) -> bool:
    return judge_run(store, load_run(store, record.id))[1].status in ("pending", "running")
