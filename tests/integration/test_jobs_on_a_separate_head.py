"""Runs on a real Ray head in a process of its own, with token authentication: submit, follow, stop, resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.head import Head
from cluster.marker import leftover_processes
from cluster.runs import list_runs, load_run

pytestmark = pytest.mark.integration

SPEC = """\
spec_version: 1
kind: label
name: water
structures: {molecule: H2O}
sampling: {name: md, params: {temperature_K: 300, trajectories: 3, frames: 6, every_fs: 2, equilibrate_fs: 0}}
split: {by: trajectory, valid: 1, test: 1}
"""


class Equi:
    """The installed command `equi` on one store and one head, each call a process of its own."""

    def __init__(self, folder, store, head, token_file):
        self.folder, self.store, self.head, self.token_file = folder, store, head, token_file

    def __call__(self, *words, timeout=150):
        command = [str(Path(sys.executable).with_name("equi")), *words]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *words):
        command = [str(Path(sys.executable).with_name("equi")), *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def environment(self):
        ours = {
            "EQUI_STORE": self.store.uri,
            "EQUI_ADDRESS": self.head.address,
            "EQUI_TOKEN_FILE": str(self.token_file),
        }
        return {**os.environ, **ours}

    def ok(self, *words):
        done = self(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *words):
        done = self(*words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def equi(tmp_path, store, ray_head):
    (tmp_path / "label.yaml").write_text(SPEC)
    return Equi(tmp_path, store, ray_head, ray_head.token_file)


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)
    return found


def frames_done(store, run_id):
    try:
        return json.loads(store.read(f"runs/{run_id}/progress.json"))["tasks"][0]["completed"]
    except Exception:
        return 0


def test_a_run_on_a_cluster_is_followed_to_its_end_and_its_log_outlives_the_job(equi, store, ray_head):
    out = equi.ok("submit", "label.yaml", "--id", "good", "--follow")
    assert "run good was submitted" in out
    assert "run good succeeded" in out  # the driver's own words, which came through the head
    record = load_run(store, "good")
    assert (record.status, record.where.mode, record.where.submission_id) == ("succeeded", "cluster", "good-1")
    assert record.outputs["dataset"] == "water@1"
    assert b"run good succeeded" in store.read("runs/good/driver.log")
    assert "run good succeeded" in equi.ok("logs", "good")
    assert json.loads(equi.ok("status", "good", "--json"))["status"] == "succeeded"

    head = Head.reach(ray_head.address, ray_head.token_file)
    details = head._client().get_job_info("good-1")
    assert details.metadata["run"] == "good"
    token = ray_head.token_file.read_text()
    assert token not in details.model_dump_json()
    assert token.encode() not in b"".join(store.read(key) for key in store.list("runs/good"))

    assert "exists already" in equi.refused("submit", "label.yaml", "--id", "good")


@pytest.mark.slow
def test_a_run_on_a_cluster_is_stopped_and_resumed_from_what_it_had_finished(equi, store):
    equi.ok("submit", "label.yaml", "--id", "long", "--set", "sampling.params.frames=1000")
    wait_for(lambda: frames_done(store, "long") > 0)
    assert "is running and cannot be resumed" in equi.refused("resume", "long")
    with equi.start("logs", "-f", "long") as follower:
        assert "run long was stopped" in equi.ok("stop", "long")
        assert load_run(store, "long").status == "stopped"
        followed, _ = follower.communicate(timeout=60)
    assert "run long, attempt 1" in followed
    assert follower.returncode == 1  # it did not succeed
    out = equi.ok("resume", "long", "--follow")
    assert "attempt 2" in out
    assert "finished chunks found on the store" in out
    record = load_run(store, "long")
    assert (record.status, record.attempt, record.where.submission_id) == ("succeeded", 2, "long-2")
    log = store.read("runs/long/driver.log").decode()
    assert log.index("attempt 1") < log.index("attempt 2")


@pytest.mark.slow
def test_a_driver_killed_on_the_cluster_leaves_a_lost_run_that_can_be_resumed(equi, store):
    equi.ok("submit", "label.yaml", "--id", "killed", "--set", "sampling.params.frames=1000")
    wait_for(lambda: frames_done(store, "killed") > 0)
    os.kill(load_run(store, "killed").where.pid, signal.SIGKILL)
    shown = wait_for(lambda: [line for line in equi.ok("runs").splitlines() if "killed" in line and "lost" in line])
    assert "its driver process is gone" in shown[0]
    equi.ok("resume", "killed", "--follow", "--json")
    assert load_run(store, "killed").status == "succeeded"


def test_a_wrong_token_is_refused_and_nothing_is_submitted(equi, store, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("f" * 64)
    wrong.chmod(0o600)
    equi.token_file = wrong
    assert "refuses the token" in equi.refused("submit", "label.yaml", "--id", "never")
    equi.token_file = tmp_path / "nothing"
    assert "cannot be read" in equi.refused("submit", "label.yaml", "--id", "never")
    assert list_runs(store) == []


def test_a_ray_session_with_a_wrong_token_is_a_clear_error(ray_head, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("f" * 64)
    wrong.chmod(0o600)
    script = f"""
from pathlib import Path
from cluster.errors import ClusterError
from cluster.session import open_session
try:
    with open_session({ray_head.gcs!r}, home=Path({str(tmp_path)!r})):
        print("let in")
except ClusterError as error:
    print("refused:", error)
"""
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(wrong)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("refused: no Ray session on"), done.stdout + done.stderr


def test_more_workers_than_the_cluster_can_ever_have_are_refused(ray_head):
    capacity = wait_for(lambda: Head.reach(ray_head.address, ray_head.token_file).capacity())
    assert capacity == {"CPU": 2.0, "GPU": 0.0}


@pytest.mark.slow
def test_how_each_run_ended_is_known_after_the_cluster_is_gone(new_head, tmp_path, store):
    (tmp_path / "label.yaml").write_text(SPEC)
    with new_head() as head:
        equi = Equi(tmp_path, store, head, head.token_file)
        equi.ok("submit", "label.yaml", "--id", "before", "--follow")
        equi.ok("submit", "label.yaml", "--id", "during", "--set", "sampling.params.frames=2000")
        wait_for(lambda: frames_done(store, "during") > 0)
        head.kill()
        assert leftover_processes(head.marker) == []
        listed = {run["id"]: run for run in json.loads(equi.ok("runs", "--json"))}
        assert listed["before"]["status"] == "succeeded"
        assert (listed["during"]["status"], listed["during"]["reason"]) == ("lost", "its driver process is gone")
        assert "run before succeeded" in equi.ok("logs", "before")
        assert "no Ray head answers" in equi.refused("resume", "during")
        assert "run during was stopped" in equi.ok("stop", "during")
