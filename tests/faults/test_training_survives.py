"""A training run whose workers or driver are killed, or that is stopped, ends with the numbers of an unbroken one."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from atoms_on_springs import COMMIT_EVERY, SPEC, STEPS, publish_springs

from cluster.runs import RunRecord, load_run
from cluster.store import Store, open_store
from jobs.recording.events import Event, read_events

pytestmark = pytest.mark.timeout(1800)

EQUI = [sys.executable, "-c", "from cluster.cli import main; main()"]
RUN_S = 150.0  # a whole run on a free machine, with room
GONE_S = 20.0
HEAD_S = 120.0  # Ray's processes wait a minute for it to come back
RECOVERY_S = 20.0  # from a failure to the next step


@dataclass
class Site:
    """A folder with a store and a spec, and how to start `equi` there."""

    folder: Path
    store: Store
    start: Callable[..., AbstractContextManager[Any]]
    stretch: float

    def equi(self, *words: str, code: int = 0) -> str:
        """One short command; its exit code is `code`, and no traceback is shown."""
        done = subprocess.run([*EQUI, *words], cwd=self.folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def submitted(self, run: str, *options: str, follow: bool = True) -> AbstractContextManager[Any]:
        """`equi submit`: the driver and all its workers are processes of what this starts."""
        words = ["submit", "train.yaml", "--id", run, "--cpus", "2", *options, *(["--follow"] if follow else [])]
        return self.start([*EQUI, *words], self.folder)

    def committed(self, run: str) -> int:
        """Step of the newest committed checkpoint; 0 if there is none."""
        commits = [key for key in self.store.list(f"runs/{run}/checkpoints/") if key.endswith("/COMMIT.json")]
        return max((int(key.split("/")[-2]) for key in commits), default=0)

    def wait_for_commit(self, run: str, step: int, running: Any) -> int:
        """Until a checkpoint of `step` or later is committed, while the run goes on; returns which."""
        deadline = time.monotonic() + RUN_S * self.stretch
        while (found := self.committed(run)) < step:
            assert time.monotonic() < deadline, running.output
            assert running.process.poll() in (None, 0), running.output
            time.sleep(0.02)
        assert found < STEPS, "the run was over before it could be interrupted; make it longer"
        return found

    def steps_seen(self, run: str, until: Callable[[], bool]) -> list[int]:
        """Every step that the leading worker has reported until then, read much more often than it reports."""
        seen: list[int] = []
        while not until():
            step = json.loads(self.store.read(f"runs/{run}/live.json")).get("completed", 0)
            if not seen or seen[-1] != step:
                seen.append(step)
            time.sleep(0.02)
        return seen


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, start: Any, stretch: float) -> Site:
    folder = tmp_path_factory.mktemp("training")
    (folder / "train.yaml").write_text(SPEC)
    store = open_store(str(folder / ".equi" / "store"))
    publish_springs(store)
    return Site(folder, store, start, stretch)


@pytest.fixture(scope="module")
def unbroken(site: Site) -> dict[str, Any]:
    """The outputs of a run that nobody disturbs."""
    with site.submitted("unbroken") as running:
        assert running.exit_code(RUN_S * site.stretch) == 0, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    return finished(site, "unbroken").outputs


def finished(site: Site, run: str) -> RunRecord:
    record = load_run(site.store, run)
    assert record.status == "succeeded", record
    assert record.outputs["steps"] == STEPS
    assert site.committed(run) == STEPS
    return record


def workers(running: Any) -> set[int]:
    """Processes that train."""
    return {pid for pid, words in running.processes().items() if "TrainWorker" in words}


def back_at_work(site: Site, run: str, running: Any, attempt: int) -> float:
    """Seconds until the workers of a later start than `attempt` have made a step."""
    begun = time.monotonic()
    while True:
        live = json.loads(site.store.read(f"runs/{run}/live.json"))
        if live["attempt"] > attempt and "now" in live:
            return time.monotonic() - begun
        assert running.process.poll() is None, running.output
        assert time.monotonic() < begun + RUN_S * site.stretch, running.output
        time.sleep(0.05)


def attempt_at_work(site: Site, run: str) -> int:
    """Which start of the workers reports."""
    return int(json.loads(site.store.read(f"runs/{run}/live.json"))["attempt"])


def restarts(site: Site, run: str) -> list[Event]:
    """What the driver wrote down about starting the workers again."""
    return [event for event in read_events(site.store, run) if event.what in ("restarted", "changed")]


def same_numbers(outputs: dict[str, Any], others: dict[str, Any]) -> bool:
    """To the last bit: everything random is a function of seed and step."""
    return all(outputs[name] == others[name] for name in ("metrics", "best_step", "best_value", "steps"))


def test_a_run_whose_controller_is_killed_loses_no_digit(site: Site, unbroken: dict[str, Any]) -> None:
    with site.submitted("controller") as running:
        site.wait_for_commit("controller", COMMIT_EVERY, running)
        (controller,) = (pid for pid, words in running.processes().items() if "TrainController" in words)
        os.kill(controller, signal.SIGKILL)
        assert running.exit_code(RUN_S * site.stretch) == 0, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    (told,) = restarts(site, "controller")
    assert "the process that leads the workers died" in told.details["why"]
    assert same_numbers(finished(site, "controller").outputs, unbroken)


@pytest.mark.alone
def test_a_killed_worker_costs_the_steps_since_the_last_commit_and_no_digit(
    site: Site, unbroken: dict[str, Any]
) -> None:
    with site.submitted("worker") as running:
        site.wait_for_commit("worker", 2 * COMMIT_EVERY, running)
        before = workers(running)
        assert len(before) == 2, running.processes()
        committed, attempt = site.committed("worker"), attempt_at_work(site, "worker")
        os.kill(max(before), signal.SIGKILL)
        assert back_at_work(site, "worker", running, attempt) < RECOVERY_S * site.stretch
        seen = site.steps_seen("worker", lambda: running.process.poll() is not None)
        assert running.exit_code(5) == 0, running.output
    assert min(seen) >= committed, seen  # from the newest commit, not from the start
    record = finished(site, "worker")
    assert [(event.what, event.details["cause"]) for event in restarts(site, "worker")] == [
        ("restarted", "worker killed")
    ]
    assert record.attempt == 1
    assert same_numbers(record.outputs, unbroken)


def test_a_killed_worker_without_restarts_ends_the_run_with_its_rank(site: Site) -> None:
    with site.submitted("fragile", "--set", "failure.max_restarts=0") as running:
        site.wait_for_commit("fragile", COMMIT_EVERY, running)
        os.kill(max(workers(running)), signal.SIGKILL)
        assert running.exit_code(RUN_S * site.stretch) == 1, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    record = load_run(site.store, "fragile")
    assert record.status == "failed"
    assert record.error is not None
    died = "its process died: killed, out of memory, or crashed in native code"
    told = rf"WorkersFailedError: (rank [01]: {died}|a process of the run is gone \(rank [01]: .*\))"
    assert re.fullmatch(told, record.error.message), record.error
    assert "runs/fragile/driver.log" in site.equi("status", "fragile")


def test_a_run_whose_driver_is_killed_is_lost_and_resumed_without_losing_a_digit(
    site: Site, unbroken: dict[str, Any]
) -> None:
    with site.submitted("driver", follow=False) as running:
        site.wait_for_commit("driver", 2 * COMMIT_EVERY, running)
        pid = load_run(site.store, "driver").where.pid
        assert pid in running.processes()
        os.kill(pid, signal.SIGKILL)
        assert running.left_after(GONE_S * site.stretch) == {}
    assert json.loads(site.equi("status", "driver", "--json"))["status"] == "lost"
    assert "lost" in site.equi("status", "driver")
    committed = site.committed("driver")
    resumed_without_losing_a_digit(site, "driver", committed, unbroken)


def test_a_run_whose_head_is_gone_is_resumed_without_losing_a_digit(site: Site, unbroken: dict[str, Any]) -> None:
    with site.submitted("head", follow=False) as running:
        site.wait_for_commit("head", COMMIT_EVERY, running)
        (head,) = (pid for pid, words in running.processes().items() if words.split()[0].endswith("gcs_server"))
        os.kill(head, signal.SIGKILL)
        assert running.left_after(HEAD_S * site.stretch) == {}
    assert json.loads(site.equi("status", "head", "--json"))["status"] in ("failed", "lost")
    assert site.committed("head") >= COMMIT_EVERY  # workers may go on without it, to the end even: steps need no head
    site.equi("resume", "head", "--follow", "--cpus", "2")
    assert same_numbers(finished(site, "head").outputs, unbroken)


def test_a_run_that_was_stopped_is_resumed_without_losing_a_digit(site: Site, unbroken: dict[str, Any]) -> None:
    with site.submitted("stopped", follow=False) as running:
        site.wait_for_commit("stopped", COMMIT_EVERY, running)
        before = site.committed("stopped")
        assert "was stopped" in site.equi("stop", "stopped")
        assert running.left_after(GONE_S * site.stretch) == {}
    assert json.loads(site.equi("status", "stopped", "--json"))["status"] == "stopped"
    assert site.committed("stopped") > before  # it has saved first
    resumed_without_losing_a_digit(site, "stopped", site.committed("stopped"), unbroken)


def resumed_without_losing_a_digit(site: Site, run: str, committed: int, unbroken: dict[str, Any]) -> None:
    assert 0 < committed < STEPS
    site.store.delete(f"runs/{run}/live.json")
    with site.start([*EQUI, "resume", run, "--follow", "--cpus", "2"], site.folder) as running:
        deadline = time.monotonic() + RUN_S * site.stretch
        while not site.store.exists(f"runs/{run}/live.json"):
            assert time.monotonic() < deadline, running.output
            assert running.process.poll() is None, running.output
            time.sleep(0.02)
        seen = site.steps_seen(run, lambda: running.process.poll() is not None)
        assert running.exit_code(5) == 0, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    assert committed <= min(seen) <= committed + COMMIT_EVERY, seen
    record = finished(site, run)
    assert record.attempt == 2
    assert same_numbers(record.outputs, unbroken)


@pytest.mark.alone
def test_a_worker_that_gets_sigterm_saves_first_and_nothing_is_computed_twice(
    site: Site, unbroken: dict[str, Any]
) -> None:
    with site.submitted("noticed", "--set", "failure.max_restarts=0") as running:
        site.wait_for_commit("noticed", COMMIT_EVERY, running)
        attempt = attempt_at_work(site, "noticed")
        os.kill(max(workers(running)), signal.SIGTERM)
        assert back_at_work(site, "noticed", running, attempt) < (RECOVERY_S + 5) * site.stretch
        assert running.exit_code(RUN_S * site.stretch) == 0, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    record = finished(site, "noticed")
    assert record.attempt == 1
    assert same_numbers(record.outputs, unbroken)
    (told,) = restarts(site, "noticed")  # though no restart was allowed: a preemption is nobody's fault
    assert told.details["cause"] == "preempted"
    steps = steps_measured(site, "noticed")
    assert steps == list(range(1, STEPS + 1)), "a step is missing, or was computed twice"


def steps_measured(site: Site, run: str) -> list[int]:
    """The step of every row of metrics on the store."""
    tables = [pq.read_table(BytesIO(site.store.read(key))) for key in site.store.list(f"runs/{run}/metrics/")]
    return sorted(step for table in tables for step in table.column("step").to_pylist())


def test_a_rank_that_hangs_is_named_with_the_step_that_it_missed(site: Site) -> None:
    limits = ("--set", "failure.max_restarts=0", "--set", "failure.collective_timeout=5")
    with site.submitted("hung", *limits) as running:
        site.wait_for_commit("hung", COMMIT_EVERY, running)
        stopped = max(workers(running))
        os.kill(stopped, signal.SIGSTOP)
        assert running.exit_code(RUN_S * site.stretch) == 1, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    error = load_run(site.store, "hung").error
    assert error is not None
    found = re.search(
        r"rank (\d) has not arrived at step (\d+) within 5 s; last seen at step (\d+), (\d+) s ago; "
        r"its process answers no more \(pid (\d+) on [\d.]+\)",
        error.message,
    )
    assert found is not None, error
    assert int(found[5]) == stopped
    assert error.message.count("has not arrived") == 1  # the other has only waited
    assert int(found[1]) == error.rank
    assert 0 < int(found[3]) <= int(found[2]) <= STEPS  # it was last asked up to a second before


def test_a_run_with_a_hung_rank_goes_on_without_losing_a_digit(site: Site, unbroken: dict[str, Any]) -> None:
    with site.submitted("thawed", "--set", "failure.collective_timeout=5") as running:
        site.wait_for_commit("thawed", COMMIT_EVERY, running)
        os.kill(max(workers(running)), signal.SIGSTOP)
        assert running.exit_code(RUN_S * site.stretch) == 0, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    assert [event.details["cause"] for event in restarts(site, "thawed")] == ["hung collective"]
    assert same_numbers(finished(site, "thawed").outputs, unbroken)


def test_a_run_that_diverges_is_told_at_once_and_not_started_again(site: Site) -> None:
    wild = ("--set", "optimizer.params.lr=1e6", "--set", "failure.max_restarts=3", "--set", "guard.budget=3")
    with site.submitted("wild", *wild) as running:
        assert running.exit_code(RUN_S * site.stretch) == 1, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    assert restarts(site, "wild") == []
    record = load_run(site.store, "wild")
    assert record.status == "failed"
    assert record.error is not None
    assert re.search(r"rank \d: .*the gradients have norm .* at step \d+", record.error.message), record.error
    assert re.search(r"samples s\d+", record.error.message)
    assert record.error.log == "runs/wild/driver.log"
    assert "the gradients have norm" in site.store.read(record.error.log).decode()
    shown = site.equi("status", "wild")
    assert "the gradients have norm" in shown
    assert "runs/wild/driver.log" in shown
    assert "the gradients have norm" in site.equi("runs")


def test_a_digit_that_was_lost_would_be_noticed(unbroken: dict[str, Any]) -> None:
    metrics = {**unbroken["metrics"], "valid/loss": math.nextafter(unbroken["metrics"]["valid/loss"], math.inf)}
    assert same_numbers(unbroken, unbroken)
    assert not same_numbers(unbroken, {**unbroken, "metrics": metrics})
    assert unbroken["best_value"] == unbroken["metrics"]["valid/loss"] < 0.1  # it has learned something to lose
