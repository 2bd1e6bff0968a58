"""Run records: what was asked for, how it stands and how it ended. They live on the store, not in Ray.

runs/<id>/record.json     RunRecord, changed by compare-and-swap only
          spec.yaml       the resolved spec, never changed
          heartbeat.json  the driver's sign of life, every 5 s
          progress.json   cluster.progress
          driver.log      what the driver said
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.errors import ConflictError, NotFoundError, PreconditionFailedError, StoreError, UserError
from cluster.processes import is_alive
from cluster.run_status import ENDED, RESUMABLE, Event, Judgement, Status, StatusError, judge, next_status
from cluster.store import Store, decode_json, encode_json, swap_json

RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?")  # also fit for a Ray submission id and a label


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a later version's record stays readable


class Where(_Frozen):
    """Where the driver of a run is."""

    mode: Literal["local", "cluster"] = "local"
    address: str | None = None  # of the head's dashboard, http://host:port
    submission_id: str | None = None
    host: str | None = None
    pid: int | None = None
    pid_started: str | None = None  # tells this process from a later one of the same number
    session: str | None = None  # marker of the embedded session's processes
    log: str | None = None  # path or key of the driver's log


class RunError(_Frozen):
    """Why a run failed."""

    message: str
    rank: int | None = None
    log: str | None = None


class RunRecord(_Frozen):
    """One run. Times are UTC; `attempt` counts from 1 and grows with each resume."""

    id: str
    kind: str
    name: str
    status: Status = "pending"
    created: datetime
    submitted: datetime  # of this attempt
    started: datetime | None = None
    ended: datetime | None = None
    attempt: int = 1
    where: Where = Field(default_factory=Where)
    stop_requested: bool = False
    error: RunError | None = None
    outputs: dict[str, Any] = Field(default_factory=dict)
    spec_digest: str = ""
    code_version: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the record names an end."""
        return self.status in ENDED


def key(run_id: str, name: str) -> str:
    """Key of one object of a run. Raises UserError for what cannot be a run id."""
    if not RUN_ID.fullmatch(run_id):
        raise UserError(
            f"{run_id!r} cannot be a run id",
            allowed="1 to 60 lower-case letters, digits and '-', beginning and ending with a letter or digit",
        )
    return f"runs/{run_id}/{name}"


def new_run_id(kind: str, name: str) -> str:
    """A new id that says what it is: train-ethanol-20261121-093012-4f2a."""
    stem = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{name}".lower()).strip("-")[:36].rstrip("-")
    return f"{stem}-{_now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def create_run(
    store: Store,
    *,
    kind: str,
    name: str,
    spec: str,
    run_id: str | None = None,
    where: Where | None = None,
    code_version: str = "",
) -> RunRecord:
    """Write a pending run and its resolved spec (YAML text). Raises ConflictError if the id is taken."""
    now = _now()
    record = RunRecord(
        id=run_id or new_run_id(kind, name),
        kind=kind,
        name=name,
        created=now,
        submitted=now,
        where=where or Where(),
        spec_digest=hashlib.sha256(spec.encode()).hexdigest(),
        code_version=code_version,
    )
    try:
        store.write(key(record.id, "record.json"), encode_json(record.model_dump(mode="json")), if_absent=True)
    except PreconditionFailedError as error:
        raise ConflictError(
            f"a run with the id {record.id} exists already",
            hint=f"Nothing was submitted. See `equi status {record.id}`, or leave out --id.",
        ) from error
    store.write(key(record.id, "spec.yaml"), spec.encode())
    return record


def load_run(store: Store, run_id: str) -> RunRecord:
    """The record of a run. Raises NotFoundError."""
    name = key(run_id, "record.json")
    try:
        return _record(decode_json(store.read(name), name), name)
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no run {run_id} in {store.uri}", hint="`equi runs` lists them; --store names another store."
        ) from error


def load_spec_text(store: Store, run_id: str) -> str:
    """The resolved spec of a run, YAML."""
    return store.read(key(run_id, "spec.yaml")).decode()


def list_runs(store: Store) -> list[RunRecord]:
    """Every run of the store, the newest first."""
    ids = [name for name in store.children("runs") if RUN_ID.fullmatch(name)]
    with ThreadPoolExecutor(16) as readers:  # one round trip each on S3
        found = list(readers.map(lambda run_id: _load_or_none(store, run_id), ids))
    records = [record for record in found if record is not None]
    return sorted(records, key=lambda record: record.created, reverse=True)


def update_run(store: Store, run_id: str, **changes: Any) -> RunRecord:
    """Change fields of a record by compare-and-swap; not its status, see `happen`."""
    if "status" in changes:
        raise ValueError("the status of a run is changed by happen(), which checks the transition")
    return change_run(store, run_id, lambda record: record.model_copy(update=changes))


def happen(store: Store, run_id: str, event: Event, *, attempt: int | None = None, **changes: Any) -> RunRecord:
    """An event in the life of a run, with what else it changes. Raises StatusError where it is impossible.

    attempt: the attempt that speaks; one that is no longer the current one is refused (ConflictError), so that a
    driver which was believed lost cannot overwrite the attempt that took over.
    """

    def change(record: RunRecord) -> RunRecord:
        if attempt is not None and record.attempt != attempt:
            raise ConflictError(f"attempt {attempt} of run {run_id} is over: attempt {record.attempt} goes on")
        status = next_status(record.status, event)
        times: dict[str, Any] = {"ended": _now() if status in ENDED else None}
        if event == "start":
            times["started"] = _now()
        return record.model_copy(update={"status": status, **times, **changes})

    return change_run(store, run_id, change)


def cannot_resume(record: RunRecord, verdict: Judgement) -> StatusError:
    """What is said to somebody who resumes a run that goes on or has succeeded."""
    return StatusError(
        f"run {record.id} is {verdict.status} and cannot be resumed",
        allowed="a run that failed, was stopped or was lost",
    )


def next_attempt(store: Store, seen: RunRecord, verdict: Judgement, where: Where) -> RunRecord:
    """Make an ended or lost run pending again, as its next attempt. Raises StatusError for any other.

    seen: the record that was judged; ConflictError if somebody was faster.
    """
    if verdict.status not in RESUMABLE:
        raise cannot_resume(seen, verdict)

    def change(record: RunRecord) -> RunRecord:
        if record.attempt != seen.attempt or record.status != seen.status:
            raise ConflictError(f"run {seen.id} was changed meanwhile: it is {record.status}")
        lost: Status = record.status if record.is_over else next_status(record.status, "lose")
        fresh = {"submitted": _now(), "started": None, "ended": None, "stop_requested": False, "error": None}
        status = next_status(lost, "resume")
        return record.model_copy(
            update={**fresh, "status": status, "attempt": record.attempt + 1, "where": where, "outputs": {}}
        )

    return change_run(store, seen.id, change)


def change_run(store: Store, run_id: str, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
    """Compare-and-swap of a whole record. `change` may be called again and may refuse by raising."""
    name = key(run_id, "record.json")

    def swap(document: dict[str, Any] | None) -> dict[str, Any]:
        if document is None:
            raise NotFoundError(f"there is no run {run_id} in {store.uri}")
        changed: dict[str, Any] = change(_record(document, name)).model_dump(mode="json")
        return changed

    return _record(swap_json(store, name, swap), name)


def judge_run(store: Store, record: RunRecord, *, now: datetime | None = None) -> tuple[RunRecord, Judgement]:
    """What the run counts as, seen from this machine, and the record that was judged.

    Heartbeats carry the driver's clock: two machines minutes apart judge wrongly, and only what is shown.
    """
    if record.is_over:
        return record, judge(record.status, silent_s=0, pid_alive=None)
    where = record.where
    alive = is_alive(where.pid, where.pid_started, where.host)
    if alive is False:  # it may have written its end between our two looks
        record = load_run(store, record.id)
    silent = ((now or _now()) - _last_sign(store, record)).total_seconds()
    return record, judge(record.status, silent_s=max(0.0, silent), pid_alive=alive)


def _last_sign(store: Store, record: RunRecord) -> datetime:
    since = record.started or record.submitted
    try:
        beat = decode_json(store.read(key(record.id, "heartbeat.json")), "heartbeat.json")
    except NotFoundError:
        return since
    return max(since, datetime.fromtimestamp(float(beat["time"]), UTC))


def _load_or_none(store: Store, run_id: str) -> RunRecord | None:
    try:
        return load_run(store, run_id)
    except NotFoundError:  # a folder without a record: another tool's, or deleted meanwhile
        return None


def _record(document: dict[str, Any], name: str) -> RunRecord:
    try:
        return RunRecord.model_validate(document)
    except ValidationError as error:
        raise StoreError(f"{name} on the store is no run record: {error.errors()[0]['msg']}") from None


def _now() -> datetime:
    return datetime.now(UTC)
