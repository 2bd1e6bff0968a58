"""Which processes belong to a session: those that inherited its marker through the environment.

Ray renames its processes and moves some into sessions of their own, so neither a command line nor a process
group finds them all; an environment variable that only our session exports does. Linux only (/proc).
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "EQUI_SESSION"


@dataclass(frozen=True)
class Leftover:
    """A live process that carries a session's marker."""

    pid: int
    command: str


def leftover_processes(marker: str) -> list[Leftover]:
    """Live processes, other than this one, that started with EQUI_SESSION=`marker`; no zombies."""
    return [Leftover(pid, _command(pid)) for pid in _all_pids() if pid != os.getpid() and _carries(pid, marker)]


def wait_until_gone(marker: str, seconds: float) -> list[Leftover]:
    """Poll until no process carries the marker, `seconds` at most. Returns those that are still there."""
    deadline = time.monotonic() + seconds
    while (left := leftover_processes(marker)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def kill_leftovers(marker: str, *, rounds: int = 20) -> list[Leftover]:
    """SIGKILL whatever carries the marker, again while new ones appear. Returns what survived."""
    left = leftover_processes(marker)
    for _ in range(rounds):
        if not left:
            break
        for process in left:
            if _carries(process.pid, marker):  # the number may have gone to someone else meanwhile
                _kill(process.pid)
        left = wait_until_gone(marker, 0.5)
    return left


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _carries(pid: int, marker: str) -> bool:
    """Whether the process started with our marker. A zombie's environment is empty, so it never does."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone meanwhile, or another user's
        return False
    return f"{VARIABLE}={marker}".encode() in environment.split(b"\0")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(gone)"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
