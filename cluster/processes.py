"""A process that can be recognised again: its number and the moment it started, since numbers are used twice."""

import os
import socket
from pathlib import Path


def start_mark(pid: int) -> str | None:
    """Boot id and start time (clock ticks) of a live process; None if there is none. Linux only."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The second field is the name in brackets and may hold anything; what follows it is split by blanks.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):  # a zombie has ended; only its parent has not looked yet
        return None
    return f"{boot}:{fields[19]}"


def is_alive(pid: int | None, started: str | None, host: str | None) -> bool | None:
    """Whether exactly that process lives. None where it cannot be seen from here."""
    if pid is None or host != socket.gethostname():
        return None
    mark = start_mark(pid)
    return mark is not None and (started is None or mark == started)


def this_process() -> tuple[int, str | None, str]:
    """(pid, start mark, host) of the caller."""
    return os.getpid(), start_mark(os.getpid()), socket.gethostname()
