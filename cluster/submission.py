"""Starting the driver of a pending run: as a child process here, or as a Ray job on a cluster.

Both run `python -m cluster.driver --store URI --run ID`. Credentials of the store never travel with a job: the
cluster's own environment has them.
"""

import contextlib
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster.code_version import VARIABLE as CODE_VERSION
from cluster.head import Head, is_loopback
from cluster.marker import VARIABLE as SESSION
from cluster.processes import start_mark, this_process
from cluster.run_log import log_path
from cluster.runs import RunRecord, Where, change_run
from cluster.store import Store
from cluster.store.local import LocalStore

PACKAGES = ("equimodels", "cluster", "jobs", "serve")
# Where a store is, not how one gets in; without these a cluster could not find an S3 server other than AWS.
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|_KEY", re.IGNORECASE)


def start_here(store: Store, record: RunRecord, *, home: Path, cpus: int | None = None) -> RunRecord:
    """Start the driver as a process of its own that outlives the caller. Returns the record with its pid."""
    log = log_path(store, record.id, home)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cluster.driver", "--store", store.uri, "--run", record.id]
    command += ["--home", str(home.expanduser().absolute())]
    command += ["--cpus", str(cpus)] if cpus is not None else []
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", CODE_VERSION: record.code_version}
    pid = _spawn_detached(command, environment, log)
    mark = start_mark(pid)
    host = this_process()[2]

    def note(current: RunRecord) -> RunRecord:
        if current.where.pid is not None or current.is_over:  # the driver was faster
            return current
        known = {"pid": pid, "pid_started": mark, "host": host, "log": str(log)}
        return current.model_copy(update={"where": current.where.model_copy(update=known)})

    return change_run(store, record.id, note)


def _spawn_detached(command: list[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a process nobody here will wait for; neither Ctrl-C nor the end of this terminal reaches it.

    Not subprocess.Popen, which holds on to its child and warns when it is let go while the child runs.
    """
    return os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def start_on(head: Head, store: Store, record: RunRecord) -> None:
    """Start the driver as a Ray job; the record's `where` says its submission id."""
    if record.where.submission_id is None:
        raise ValueError(f"run {record.id} has no submission id")
    with staged_sources() as sources:
        head.submit(
            submission_id=record.where.submission_id,
            entrypoint=entrypoint(head, store, record),
            runtime_env={
                "working_dir": str(sources),
                "env_vars": passed_on(os.environ) | {CODE_VERSION: record.code_version},
            },
            metadata={
                "run": record.id,
                "kind": record.kind,
                "attempt": str(record.attempt),
                "spec_digest": record.spec_digest,
                "code_version": record.code_version,
            },
        )


def entrypoint(head: Head, store: Store, record: RunRecord) -> str:
    """The job's command. A head on this machine gets this interpreter, another one the `python` of its image."""
    python = sys.executable if is_loopback(head.address) else "python"
    return shlex.join([python, "-m", "cluster.driver", "--store", store.uri, "--run", record.id])


def where_on(head: Head, run_id: str, attempt: int) -> Where:
    """Where an attempt on that cluster is. Each attempt is a job of its own; Ray refuses a second of that id."""
    return Where(mode="cluster", address=head.address, submission_id=f"{run_id}-{attempt}")


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What a job gets of our environment: our own settings and where the store is. Nothing that may be a secret."""
    ours = {name: value for name, value in environment.items() if name.startswith("EQUI_") and name != SESSION}
    places = {name: environment[name] for name in PASSED_ON if name in environment}
    return {name: value for name, value in {**ours, **places}.items() if not _SECRET.search(name)}


@contextlib.contextmanager
def staged_sources() -> Iterator[Path]:
    """A folder with a copy of the four packages and nothing else: what a job's workers import."""
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="equi-sources-") as folder:
        for package in PACKAGES:
            shutil.copytree(
                root / package,
                Path(folder) / package,
                ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.o", ".*"),
            )
        yield Path(folder)


def warning_about(store: Store, head: Head) -> str | None:
    """What to say before a run is sent to a cluster that may not see the store."""
    if isinstance(store, LocalStore) and not is_loopback(head.address):
        return f"{store.uri} is a folder of this machine: the cluster must have it mounted at the same path"
    return None
