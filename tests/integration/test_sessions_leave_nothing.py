"""An embedded session ends with the process that opened it, in whatever way that one ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.marker import leftover_processes, wait_until_gone
from cluster.runs import create_run, load_run

pytestmark = pytest.mark.integration

GONE_S = 15.0

# A run kind of this test: naps in Ray tasks, each with a child process of its own; stands for any runner.
KIND = """
import json, subprocess, sys, time
from pathlib import Path
from pydantic import BaseModel
from cluster.driver import run_driver
from cluster.front_door import Kind
from cluster.store import open_store

class NapSpec(BaseModel):
    kind: str
    naps: int
    fail: str = ""

def run(spec, context):
    import ray

    @ray.remote(num_cpus=1)
    def nap(seconds):
        with subprocess.Popen(["sleep", str(seconds)]) as child:
            child.wait()

    (context.workdir / "scratch").write_text("x")
    with context.progress.task("naps", total=spec.naps, unit="naps") as task:
        for _ in range(spec.naps // 2):
            ray.get([nap.remote(0.5), nap.remote(0.5)])
            task.advance(2)
    if spec.fail:
        raise RuntimeError(spec.fail)
    return {"naps": spec.naps, "resumed": context.resume, "cpus": context.session.capacity["CPU"]}

if __name__ == "__main__":
    kinds = {"nap": Kind("naps", "naps:NapSpec", "naps:run")}
    sys.exit(run_driver(open_store(sys.argv[1]), sys.argv[2], home=Path(sys.argv[3]), kinds=kinds))
"""


@pytest.fixture
def drive(tmp_path, store):
    """Start a driver process for a new run of so many naps; killed at the end if the test has not ended it."""
    (tmp_path / "naps.py").write_text(KIND)
    started = []

    def start(run_id, naps, fail="", temporary=None):
        create_run(
            store, kind="nap", name="x", spec=json.dumps({"kind": "nap", "naps": naps, "fail": fail}), run_id=run_id
        )
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        if temporary is not None:
            environment["TMPDIR"] = str(temporary)
        process = subprocess.Popen(
            [sys.executable, "-m", "naps", store.uri, run_id, str(tmp_path / "home")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def napping(store, run_id, process):
    """Wait until the run is in its tasks; returns the marker of its session."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if store.exists(f"runs/{run_id}/progress.json"):
            marker = load_run(store, run_id).where.session
            if any("sleep" in left.command for left in leftover_processes(marker)):
                return marker
        time.sleep(0.2)
    process.kill()
    pytest.fail(f"the run did not start:\n{process.communicate()[0]}")


def test_a_run_succeeds_in_an_embedded_session_and_nothing_of_it_is_left(drive, store, tmp_path):
    process = drive("good", naps=4)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    record = load_run(store, "good")
    assert record.status == "succeeded"
    assert record.outputs == {"naps": 4, "resumed": False, "cpus": float(max(2, os.cpu_count() or 1))}
    assert leftover_processes(record.where.session) == []
    assert (tmp_path / "home" / "ray.token").stat().st_mode & 0o777 == 0o600
    assert not [key for key in store.list("runs/good") if "part" in key]
    assert (tmp_path / "home" / "ray.token").read_text() not in out


def test_a_failing_run_says_why_in_its_record_and_shows_the_traceback_in_its_log(drive, store):
    process = drive("bad", naps=2, fail="the loss is not a number")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" in out
    record = load_run(store, "bad")
    assert (record.status, record.error.message) == ("failed", "RuntimeError: the loss is not a number")
    assert leftover_processes(record.where.session) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_run_ends_in_good_order_and_nothing_of_it_is_left(drive, store, number):
    process = drive("long", naps=1000)
    marker = napping(store, "long", process)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "Traceback" not in out
    assert load_run(store, "long").status == "stopped"
    assert leftover_processes(marker) == []


@pytest.mark.slow
def test_nothing_outlives_a_killed_driver_and_its_run_is_lost(drive, store, tmp_path):
    short = Path("/tmp") / f"equi-kill-{os.getpid()}"  # of its own, to see that the session's folder goes too
    short.mkdir()
    process = drive("killed", naps=1000, temporary=short)
    marker = napping(store, "killed", process)
    assert list(short.glob("equi-*"))
    process.kill()
    process.wait()
    assert wait_until_gone(marker, GONE_S) == []
    deadline = time.monotonic() + GONE_S
    while list(short.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(short.iterdir()) == []
    short.rmdir()
    from cluster.runs import judge_run

    assert judge_run(store, load_run(store, "killed"))[1].status == "lost"


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.5, 2.0, 4.0])
def test_nothing_outlives_a_driver_killed_while_ray_starts(drive, store, tmp_path, delay_s):
    short = Path("/tmp") / f"equi-early-{os.getpid()}"
    short.mkdir(exist_ok=True)
    process = drive("early", naps=1000, temporary=short)
    deadline = time.monotonic() + 60
    while not list(short.iterdir()) and time.monotonic() < deadline:  # the session's folder is its first deed
        time.sleep(0.05)
    time.sleep(delay_s)
    process.kill()
    process.wait()
    deadline = time.monotonic() + GONE_S
    while list(short.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(short.iterdir()) == []  # the watchdog removes it after it has killed what was there
    while processes_that_mention(str(short)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_that_mention(str(short)) == []
    short.rmdir()


def processes_that_mention(text):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_session_without_cpus_is_refused(tmp_path):
    from cluster.session import open_session

    with pytest.raises(ClusterError, match="1 or more"), open_session(None, home=tmp_path, cpus=0):
        pytest.fail("the block must not be entered")
