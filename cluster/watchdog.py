"""The watchdog of an embedded session: nothing of ours outlives the process that opened it.

Ray binds its daemons to the driver by PR_SET_PDEATHSIG, but not what those start: after SIGKILL of a driver
the dashboard and runtime-env agents of Ray 2.60 lived on for more than 15 s, the session's folder for ever.
The session starts this module as a child; it waits until the parent closes its end of a pipe (normal close)
or is gone (death), then kills what carries the session's marker and removes the session's folder.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cluster import marker as markers

GRACE_S = 2.0  # what Ray's own shutdown may still need after the driver is gone


class Watchdog:
    """The parent's handle: `close()` ends the session's processes now; death of the parent does the same."""

    def __init__(self, marker: str, folder: Path) -> None:
        read_end, self._write_end = os.pipe()
        environment = {key: value for key, value in os.environ.items() if key != markers.VARIABLE}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cluster.watchdog", marker, str(folder), str(os.getpid())],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=Path(__file__).parent.parent,  # `cluster` is found wherever the driver was started
                start_new_session=True,  # a Ctrl-C is for the driver; the watchdog tidies up after it
            )
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """Process id of the watchdog."""
        return self._process.pid

    def close(self, timeout: float = 30.0) -> None:
        """Tell the watchdog that the session is over and wait until it has tidied up."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1
        self._process.wait(timeout)


def watch(marker: str, folder: Path, parent: int) -> None:
    """Wait for the end of the parent, then leave no process and no folder behind."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    # A fork of the parent may hold the pipe open longer than the parent lives, so its death counts too.
    while os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    markers.wait_until_gone(marker, GRACE_S)
    markers.kill_leftovers(marker)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    watch(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
