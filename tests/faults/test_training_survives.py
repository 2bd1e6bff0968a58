"""A training run whose workers or driver are killed, or that is stopped, ends with the numbers of an unbroken one."""

import itertools
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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import STRUCTURES
from cluster.runs import RunRecord, load_run
from cluster.store import Store, open_store

pytestmark = pytest.mark.timeout(1800)

EQUI = [sys.executable, "-c", "from cluster.cli import main; main()"]
STEPS, COMMIT_EVERY = 400, 40
RUN_S = 150.0  # a whole run on a free machine, with room
GONE_S = 20.0

SPEC = f"""
spec_version: 1
kind: train
name: springs
seed: 3
data: {{uri: datasets/springs, batch: {{structures: 4}}}}
model: {{name: gaunt_potential, params: {{lmax: 1, channels: 4, layers: 1, cutoff: 3.0}}}}
embedding: {{radial: {{name: bessel, params: {{number: 4}}}}}}
objective: {{name: energy_force}}
schedule: {{steps: {STEPS}, warmup: 10, eval_every: {COMMIT_EVERY // 2}}}
strategy: {{kind: deepspeed, zero_stage: 1}}
resources: {{workers: 2}}
checkpoint: {{every_steps: {COMMIT_EVERY}}}
failure: {{max_restarts: 1}}
"""


def springs(rows: int, seed: int = 0) -> pa.Table:
    """Three atoms in a row, held together by springs: forces that belong to the energies, without a labelling run."""
    generator = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {name: [] for name in STRUCTURES.names}
    rest, strength = 1.2, 8.0  # angstrom, eV/angstrom^2
    for row in range(rows):
        positions = np.array([[0.0, 0, 0], [1.2, 0, 0], [2.4, 0, 0]]) + generator.normal(0, 0.1, (3, 3))
        forces, energy = np.zeros((3, 3)), -10.0
        for a, b in ((0, 1), (1, 2)):
            apart = positions[b] - positions[a]
            length = float(np.linalg.norm(apart))
            energy += strength / 2 * (length - rest) ** 2
            pull = strength * (length - rest) * apart / length
            forces[a] += pull
            forces[b] -= pull
        values = (f"s{row}", [8, 6, 8], positions.ravel().tolist(), energy, forces.ravel().tolist())
        split = "train" if row % 4 else ("valid" if row % 8 else "test")
        for name, value in zip(STRUCTURES.names, (*values, f"g{row}", split), strict=True):
            columns[name].append(value)
    return pa.table(columns, schema=STRUCTURES)


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
    publish_dataset(store, "springs", springs(48), kind="structures", statistics={}, provenance={"method": "springs"})
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
    """Processes of Ray Train's workers."""
    return {pid for pid, words in running.processes().items() if "RayTrainWorker" in words}


def same_numbers(outputs: dict[str, Any], others: dict[str, Any]) -> bool:
    """To the last bit: everything random is a function of seed and step."""
    return all(outputs[name] == others[name] for name in ("metrics", "best_step", "best_value", "steps"))


def test_a_killed_worker_costs_the_steps_since_the_last_commit_and_no_digit(
    site: Site, unbroken: dict[str, Any]
) -> None:
    with site.submitted("worker") as running:
        site.wait_for_commit("worker", 2 * COMMIT_EVERY, running)
        before = workers(running)
        assert len(before) == 2, running.processes()
        committed = site.committed("worker")
        os.kill(max(before), signal.SIGKILL)
        seen = site.steps_seen("worker", lambda: running.process.poll() is not None)
        assert running.exit_code(5) == 0, running.output
    assert min(seen) >= committed, seen  # from the newest commit, not from the start
    assert any(later < earlier for earlier, later in itertools.pairwise(seen)) or seen[0] == committed, seen
    record = finished(site, "worker")
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
    assert record.error.rank in (0, 1)
    died = "its process died: killed, out of memory, or crashed in native code"
    assert record.error.message == f"WorkersFailedError: rank {record.error.rank}: {died}"
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


def test_a_run_that_was_stopped_is_resumed_without_losing_a_digit(site: Site, unbroken: dict[str, Any]) -> None:
    with site.submitted("stopped", follow=False) as running:
        site.wait_for_commit("stopped", COMMIT_EVERY, running)
        assert "was stopped" in site.equi("stop", "stopped")
        assert running.left_after(GONE_S * site.stretch) == {}
    assert json.loads(site.equi("status", "stopped", "--json"))["status"] == "stopped"
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
    assert committed < min(seen) <= committed + COMMIT_EVERY, seen
    record = finished(site, run)
    assert record.attempt == 2
    assert same_numbers(record.outputs, unbroken)


def test_a_run_that_diverges_says_which_rank_which_step_and_where_the_log_is(site: Site) -> None:
    with site.submitted("wild", "--set", "optimizer.params.lr=1e6", "--set", "failure.max_restarts=0") as running:
        assert running.exit_code(RUN_S * site.stretch) == 1, running.output
        assert running.left_after(GONE_S * site.stretch) == {}
    record = load_run(site.store, "wild")
    assert record.status == "failed"
    assert record.error is not None
    found = re.search(r"rank (\d): .*the loss is not finite at step (\d+) on rank (\d)", record.error.message)
    assert found is not None, record.error
    assert int(found[1]) == int(found[3]) == record.error.rank
    assert re.search(r"samples s\d+", record.error.message)
    assert record.error.log == "runs/wild/driver.log"
    assert "the loss is not finite" in site.store.read(record.error.log).decode()
    shown = site.equi("status", "wild")
    assert "the loss is not finite at step" in shown
    assert "runs/wild/driver.log" in shown
    assert "the loss is not finite" in site.equi("runs")


def test_a_digit_that_was_lost_would_be_noticed(unbroken: dict[str, Any]) -> None:
    metrics = {**unbroken["metrics"], "valid/loss": math.nextafter(unbroken["metrics"]["valid/loss"], math.inf)}
    assert same_numbers(unbroken, unbroken)
    assert not same_numbers(unbroken, {**unbroken, "metrics": metrics})
    assert unbroken["best_value"] == unbroken["metrics"]["valid/loss"] < 0.1  # it has learned something to lose
