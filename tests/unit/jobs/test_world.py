"""The processes that train together, when there is only one; what a pulse tells of another thread; SIGTERM."""

import signal
import subprocess
import sys
import threading
from typing import Any

import torch

from jobs.pulse import Pulse
from jobs.world import World


def test_alone_every_answer_is_ones_own() -> None:
    world = World()
    assert world.leads
    assert world.any(True)
    assert not world.any(False)
    assert world.gather("here") == ["here"]
    assert torch.equal(world.sum({"a": torch.ones(2)})["a"], torch.ones(2))
    world.barrier()


def test_a_pulse_tells_step_and_stages() -> None:
    pulse = Pulse()
    assert pulse.reading().step is None
    pulse.passed("imports")
    pulse.at(3)
    assert "first step" not in pulse.reading().stages
    pulse.at(4)
    reading = pulse.reading()
    assert reading.step == 4
    assert reading.seconds < 10
    assert list(reading.stages) == ["imports", "ready", "first step"]
    pulse.passed("imports")
    assert pulse.reading().stages == reading.stages  # only the first time counts


def test_a_pulse_tells_the_line_of_ours_that_another_thread_is_in() -> None:
    pulse, begun, over = Pulse(), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        over.wait(30)

    ours: dict[str, Any] = {"__name__": "jobs.data.reader", "wait": wait, "pulse": pulse}
    exec("def read():\n    pulse.at(1)\n    wait()\n", ours)
    thread = threading.Thread(target=ours["read"])
    thread.start()
    assert begun.wait(30)
    place = pulse.reading().place
    over.set()
    thread.join()
    assert place == "jobs/data/reader.py:3"  # not the line of the test that it calls


STOPPED = """
import os, signal, sys, threading, time
from jobs.stopping import StopNotice
stop = StopNotice(float(sys.argv[1]))
stop.listen()
def train():
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
    print("saved", flush=True)
    if sys.argv[2] == "stay":
        time.sleep(60)
    os._exit(0)
threading.Thread(target=train).start()
threading.Event().wait()  # the main thread runs no Python, as in a worker of Ray
"""


def stopped(*arguments: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", STOPPED, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saved\n"
    return process


def test_sigterm_reaches_the_thread_that_trains_while_the_main_thread_waits() -> None:
    with stopped("60", "end") as process:
        assert process.wait(30) == 0


def test_a_second_sigterm_and_the_end_of_the_grace_end_the_process() -> None:
    with stopped("60", "stay") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    with stopped("0.2", "stay") as process:
        assert process.wait(30) == 128 + signal.SIGTERM
