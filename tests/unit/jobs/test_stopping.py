"""SIGTERM as a notice, in a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

PROGRAM = """
import sys, time
from jobs.stopping import StopNotice
notice = StopNotice(float(sys.argv[1]))
notice.listen()
if sys.argv[2] == "told":
    notice.give()
print("listening", flush=True)
while not notice() or sys.argv[2] == "told":
    time.sleep(0.01)
print("asked", flush=True)
time.sleep(60)
"""
Worker = "subprocess.Popen[str]"


@pytest.fixture
def started() -> Iterator[list[Worker]]:
    processes: list[Worker] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def worker(started: list[Worker], grace: float, told: str = "") -> Worker:
    """A process that listens. told: by its driver, before any signal."""
    command = [sys.executable, "-c", PROGRAM, str(grace), told]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


def test_the_first_sigterm_is_a_notice_and_the_grace_ends_the_process(started: list[Worker]) -> None:
    process, begun = worker(started, 1.0), time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    assert process.wait(10) == 128 + signal.SIGTERM
    assert time.monotonic() - begun >= 1.0


def test_the_second_sigterm_ends_the_process_at_once(started: list[Worker]) -> None:
    process = worker(started, 60.0)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM


def test_a_sigterm_after_the_drivers_notice_leaves_the_grace_too(started: list[Worker]) -> None:
    process = worker(started, 1.0, "told")
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    assert time.monotonic() - begun >= 1.0
