"""The one entry point of every run: `python -m cluster.driver --store URI --run ID`.

Started as a child process by `equi submit`, or as a Ray job on a cluster. It takes the run from pending to an
end: whatever happens, the record says how it ended. Exit codes: 0 succeeded or stopped as asked, 2 a user's
error, 1 ours.
"""

import argparse
import contextlib
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from ruamel.yaml import YAML

from cluster.context import RunContext
from cluster.errors import ConflictError, UserError
from cluster.front_door import KINDS, Kind
from cluster.heartbeat import Heartbeat, stop_this_process
from cluster.processes import this_process
from cluster.progress import Progress
from cluster.run_log import NAME, copied_output, fetch_log, keep_log, log_path
from cluster.runs import RunError, RunRecord, happen, key, load_run, load_spec_text, update_run
from cluster.session import Session, open_session
from cluster.stopping import Stop, StopSignals
from cluster.store import Store, open_store

LOG_WIDTH = 120  # columns of tables in a log


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and drive the run."""
    parser = argparse.ArgumentParser(prog="python -m cluster.driver", description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True, help="URI of the store that has the run")
    parser.add_argument("--run", required=True, help="id of a pending run")
    parser.add_argument("--home", type=Path, default=Path(".equi"), help="folder of token and logs")
    parser.add_argument("--cpus", type=int, default=None, help="logical CPUs of the embedded cluster")
    options = parser.parse_args(arguments)
    try:
        store = open_store(options.store)
    except UserError as error:
        return _tell(error)
    return run_driver(store, options.run, home=options.home, cpus=options.cpus)


def run_driver(
    store: Store, run_id: str, *, home: Path, cpus: int | None = None, kinds: Mapping[str, Kind] = KINDS
) -> int:
    """Drive a pending run to its end; returns the exit code. Nothing but the exit code comes out."""
    try:
        record = load_run(store, run_id)
    except UserError as error:
        return _tell(error)
    log = log_path(store, run_id, home)
    try:
        if record.attempt > 1:
            fetch_log(store, run_id, log)
        # A local driver was started with its output in that file; a Ray job's output belongs to Ray.
        with copied_output(log) if record.where.mode == "cluster" else contextlib.nullcontext():
            return _drive(store, record, home, cpus, kinds)
    finally:
        with contextlib.suppress(UserError):  # the store is away: the log stays where it is
            keep_log(store, run_id, log)


def _drive(store: Store, record: RunRecord, home: Path, cpus: int | None, kinds: Mapping[str, Kind]) -> int:
    console = Console(width=LOG_WIDTH)
    progress = Progress(console=console, store=store, run_id=record.id)
    address = "auto" if record.where.mode == "cluster" else None
    try:
        with StopSignals() as signals, attempt(store, record.id, signals=signals) as current:
            progress.say(f"run {current.record.id}, attempt {current.record.attempt}: {record.kind} {record.name}")
            with open_session(address, home=home, cpus=cpus) as session:
                signals.install()  # ray.init puts its own handler of SIGTERM in place
                current.joined(session)
                progress.say(f"Ray session on {session}")
                current.outputs = perform(current.record, store, session, progress, signals, kinds)
        progress.say(f"run {record.id} succeeded")
    except Stop:
        progress.say(f"run {record.id} was stopped")
    except UserError as error:
        return _tell(error)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def perform(
    record: RunRecord,
    store: Store,
    session: Session,
    progress: Progress,
    signals: StopSignals,
    kinds: Mapping[str, Kind] = KINDS,
) -> dict[str, Any]:
    """The runner of the run's kind on its stored spec, in an open session. Returns the runner's outputs."""
    kind = kinds[record.kind]
    spec = kind.model().model_validate(YAML(typ="safe").load(load_spec_text(store, record.id)))
    with tempfile.TemporaryDirectory(prefix="run-", dir=session.folder) as workdir:
        context = RunContext(
            run_id=record.id,
            store=store,
            progress=progress,
            workdir=Path(workdir),
            resume=record.attempt > 1,
            stop_requested=lambda: signals.requested,
            session=session,
        )
        return kind.run()(spec, context)


class Attempt:
    """The attempt that is under way: its record, and the outputs once there are any."""

    def __init__(self, store: Store, record: RunRecord) -> None:
        self.record, self.outputs = record, dict[str, Any]()
        self._store = store

    def joined(self, session: Session) -> None:
        """Write down which session the attempt runs in."""
        where = self.record.where.model_copy(update={"session": session.marker or None})
        self.record = update_run(self._store, self.record.id, where=where)


@contextlib.contextmanager
def attempt(
    store: Store,
    run_id: str,
    *,
    signals: StopSignals | None = None,
    on_stop: Callable[[], None] = stop_this_process,
) -> Iterator[Attempt]:
    """From pending to an end, with a heartbeat: what leaves the block decides what the record says.

    Nothing: succeeded with `outputs`. Stop: stopped. Any exception: failed, and it goes on to the caller.
    signals: once they have asked for a stop, any exception counts as one.
    Raises ConflictError if the run is not pending, without touching it.
    """
    pid, mark, host = this_process()
    found = load_run(store, run_id)
    where = found.where.model_copy(update={"pid": pid, "pid_started": mark, "host": host})
    record = happen(store, run_id, "start", attempt=found.attempt, where=where)
    current = Attempt(store, record)
    try:
        with Heartbeat(store, run_id, record.attempt, on_stop=on_stop):
            yield current
        happen(store, run_id, "succeed", attempt=record.attempt, outputs=current.outputs)
    except BaseException as error:
        stopped = isinstance(error, (KeyboardInterrupt, SystemExit)) or (signals is not None and signals.requested)
        with contextlib.suppress(ConflictError):  # resumed elsewhere: that attempt speaks for the run now
            if stopped:
                happen(store, run_id, "stop", attempt=record.attempt)
            else:
                happen(store, run_id, "fail", attempt=record.attempt, error=run_error(error, run_id))
        if isinstance(error, Stop) or not stopped:
            raise
        raise Stop from error


def run_error(error: BaseException, run_id: str) -> RunError:
    """What the record says about a failure: in the words of the cause, with the rank where one is to blame."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "cause", None), BaseException):  # ray.exceptions.RayTaskError
        cause = inner
    if isinstance(cause, UserError):
        message = cause.message
    else:
        text = str(cause).strip()
        message = f"{type(cause).__name__}: {text}" if text else type(cause).__name__
    rank = getattr(cause, "rank", getattr(error, "rank", None))
    return RunError(message=message, rank=rank if isinstance(rank, int) else None, log=key(run_id, NAME))


def _tell(error: UserError) -> int:
    sys.stderr.write(f"{error}\n")
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
