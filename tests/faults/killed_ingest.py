"""An ingest in one process that dies at a change of its store: killed_ingest.py SPEC STORE RUN CHANGE.

The CHANGE-th write or removal (from 1) does not happen: the process is killed at that moment as by a power cut. Of a
store in a folder no half of an object is ever seen, so these are all the moments that leave a difference.
"""

import os
import signal
import sys
from io import StringIO
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from cluster.context import RunContext
from cluster.progress import Progress
from cluster.spec.load import load_spec
from cluster.store import open_store
from cluster.store.local import LocalStore
from jobs.ingest.run import run
from jobs.ingest.schedule import in_turn


class Deadly(LocalStore):
    """Ends the process instead of making one of its changes."""

    left = 0

    def write(self, key: str, data: bytes, **conditions: Any) -> str:
        self._change()
        return super().write(key, data, **conditions)

    def delete(self, key: str) -> None:
        self._change()
        super().delete(key)

    def _change(self) -> None:
        Deadly.left -= 1
        if Deadly.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    spec, uri, run_id, change = sys.argv[1:]
    Deadly.left = int(change)
    store = Deadly(cast(LocalStore, open_store(uri)).root)
    quiet = Progress(console=Console(file=StringIO()))
    context = RunContext(run_id, store, quiet, Path(), False, lambda: False, cast(Any, None))
    run(load_spec(spec).spec, context, in_turn)
