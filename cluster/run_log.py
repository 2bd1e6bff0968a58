"""Where a driver's output is: a file while it runs here, an object on the store once it has ended."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.errors import NotFoundError
from cluster.runs import key
from cluster.store import Store
from cluster.store.local import LocalStore

NAME = "driver.log"


def log_path(store: Store, run_id: str, home: Path) -> Path:
    """The file a driver on this machine writes to: in the store's own folder where it has one, else in `home`."""
    root = store.root if isinstance(store, LocalStore) else home.expanduser().absolute()
    return root / key(run_id, NAME)


def keep_log(store: Store, run_id: str, path: Path) -> None:
    """Copy the log to the store, where it outlives this machine. Nothing to do where it lies there already."""
    in_store = isinstance(store, LocalStore) and path == store.root / key(run_id, NAME)
    if not in_store and path.exists():
        store.upload_file(path, key(run_id, NAME))


def fetch_log(store: Store, run_id: str, path: Path) -> None:
    """Lay the log of earlier attempts under that of this one, where this machine has not got it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(NotFoundError):
            store.download_file(key(run_id, NAME), path)


@contextmanager
def copied_output(path: Path) -> Iterator[None]:
    """Everything this process and its children write to stdout and stderr inside also goes to the file.

    On the level of file descriptors, because libraries in C and child processes write there as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    read_end, write_end = os.pipe()
    for number in kept:
        os.dup2(write_end, number)
    os.close(write_end)
    pump = threading.Thread(target=_pump, args=(read_end, kept[1], path), name="log", daemon=True)
    pump.start()
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, original in kept.items():
            os.dup2(original, number)
        pump.join(timeout=5)  # a child that lives on holds the pipe open: do not wait for it
        if not pump.is_alive():
            for original in kept.values():
                os.close(original)


def _pump(read_end: int, original: int, path: Path) -> None:
    with os.fdopen(read_end, "rb", buffering=0) as source, path.open("ab", buffering=0) as copy:
        while data := source.read(1 << 16):
            os.write(original, data)
            copy.write(data)
