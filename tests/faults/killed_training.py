"""A small potential trained by two processes that may be killed: the real loop, reader and strategy, without Ray.

`Training` starts the ranks as children of a server that has imported everything already, so that an attempt begins
within a second. When one rank dies the other is killed too and a new attempt begins, as Ray Train does it. Each attempt
leaves a line for each step: what the loss was.
"""

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist

from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import STRUCTURES
from cluster.store import Store, open_store
from cluster.store.local import LocalStore
from jobs.build import ResolvedTrain, resolve
from jobs.checkpoints import RunCheckpoints, open_checkpoint
from jobs.checkpoints.commit import committed_steps, read_commit
from jobs.checkpoints.layout import commit_name, home
from jobs.checkpoints.stages import Stage
from jobs.ports import Saved
from jobs.spec.train import TrainSpec
from jobs.worker import Assignment, work
from jobs.world import World

RANKS = 2


def spec(steps: int, every: int, **changes: Any) -> TrainSpec:
    """`steps` steps with a checkpoint and an evaluation every so many."""
    base = {
        "spec_version": 1,
        "kind": "train",
        "name": "springs",
        "data": {"uri": "datasets/springs", "batch": {"structures": 4}, "cache": None},
        "model": {"name": "gaunt_potential", "params": {"lmax": 1, "channels": 4, "layers": 1, "cutoff": 3.0}},
        "embedding": {"radial": {"name": "bessel", "params": {"number": 4}}},
        "objective": {"name": "energy_force"},
        "schedule": {"steps": steps, "warmup": 2, "eval_every": every, "ema": 0.9},
        "strategy": {"kind": "fsdp"},
        "resources": {"workers": RANKS},
        "checkpoint": {"every_steps": every, "keep_last": 1, "keep_best": 0, "patience": 120},
    }
    return TrainSpec.model_validate(base).with_changes(changes)


def springs(store: Store) -> None:
    """Publish pairs of atoms that are held together by springs."""
    random = np.random.default_rng(0)
    rows = []
    for row in range(24):
        length = float(random.uniform(1.0, 1.4))
        pull = 8.0 * (length - 1.2)  # eV/angstrom
        rows.append(
            {
                "id": f"s{row}",
                "numbers": [1, 8],
                "positions": [0.0, 0.0, 0.0, length, 0.0, 0.0],
                "energy": -10.0 + pull * (length - 1.2) / 2,
                "forces": [pull, 0.0, 0.0, -pull, 0.0, 0.0],
                "group": f"g{row}",
                "split": "train" if row % 3 else "valid",
            }
        )
    table = pa.Table.from_pylist(rows, schema=STRUCTURES)
    publish_dataset(store, "springs", table, kind="structures", statistics={}, provenance={"method": "springs"})


@dataclass(frozen=True)
class Kill:
    """Where a rank is killed: at a stage of the checkpoint of `step`, or `during upload` of its file.

    step 0 is before the first checkpoint of the attempt: the sweep with which it begins.
    """

    rank: int
    stage: Stage | str
    step: int


@dataclass(frozen=True)
class Line:
    """A step of an attempt, as the leading rank told of it."""

    attempt: int
    step: int
    loss: float
    time: float


class Losses:
    """Appends a line for each step to a file; of a killed process every line that was written is there."""

    def __init__(self, path: Path, attempt: int) -> None:
        self._path, self._attempt = path, attempt

    def progressed(self, step: int, values: Mapping[str, float]) -> None:
        line = json.dumps([self._attempt, step, values["loss"], time.time()]) + "\n"
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)

    def measured(self, step: int, values: Mapping[str, float]) -> None: ...

    def happened(self, step: int, what: str, details: Mapping[str, Any]) -> None: ...


class HalfUpload(LocalStore):
    """Dies in the middle of the upload of a file, if it was told to."""

    deadly: Callable[[], bool] = staticmethod(lambda: False)

    def upload_file(self, path: Path, key: str) -> None:
        if self.deadly():
            self.begin(key, path.read_bytes()[: path.stat().st_size // 2])
            die()
        super().upload_file(path, key)


class Watched(RunCheckpoints):
    """Knows of which step the checkpoint is that is being written."""

    now = 0

    def save(self, step: int, *arguments: Any, **options: Any) -> None:
        self.finish()
        self.now = step
        super().save(step, *arguments, **options)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def rank_main(
    rank: int,
    attempt: int,
    folder: str,
    uri: str,
    resolved: dict[str, Any],
    kill: Kill | None,
    slow: float,
    environment: dict[str, str],
) -> None:
    """One rank of an attempt. slow: seconds that each step takes longer. environment: what the server began without."""
    os.environ |= {**environment, "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-{attempt}", rank=rank, world_size=RANKS)
    world, task = World(rank, RANKS), Assignment(uri, "r1", 1, resolved)
    policy = ResolvedTrain.from_json(resolved).spec.checkpoint
    store = open_store(uri)
    mine = kill if kill is not None and kill.rank == rank else None
    if isinstance(store, LocalStore):
        store = HalfUpload(store.root)

    def reached(stage: Stage) -> None:
        if mine is not None and (stage, checkpoints[0].now if checkpoints else 0) == (mine.stage, mine.step):
            die()

    checkpoints: list[Watched] = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        checkpoints.append(Watched(store, "r1", world, policy, Path(scratch), reached=reached))
        if mine is not None and isinstance(store, HalfUpload):
            store.deadly = lambda: (mine.stage, mine.step) == ("during upload", checkpoints[0].now)  # type: ignore[method-assign]
        losses = Losses(Path(folder) / "losses.txt", attempt)

        def stop() -> bool:
            time.sleep(slow)
            return False

        work(task, world, recorder=losses, checkpoints=checkpoints[0], stop=stop)
    dist.destroy_process_group()


@dataclass
class Training:
    """A run of two ranks below `folder`, with its store there unless another is given."""

    folder: Path
    spec: TrainSpec
    uri: str = ""
    slow: float = 0.0
    attempts: list[list[BaseProcess]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.uri = self.uri or str(self.folder / "store")
        self.store = open_store(self.uri)
        springs(self.store)
        self._resolved = resolve(self.spec, self.store).to_json()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        with pytest.MonkeyPatch.context() as patch:  # the server looks for what it imports there, and says nothing
            patch.setenv("PYTHONPATH", str(Path(__file__).parent))
            forkserver.ensure_running()

    def start(self, kill: Kill | None = None) -> list[BaseProcess]:
        """Begin an attempt; its ranks."""
        self.attempts.append([])
        number, now = len(self.attempts), dict(os.environ)
        for rank in range(RANKS):
            arguments = (rank, number, str(self.folder), self.uri, self._resolved, kill, self.slow, now)
            process = self._context.Process(target=rank_main, args=arguments, daemon=True)
            process.start()
            self.attempts[-1].append(process)
        return self.attempts[-1]

    def wait(self, seconds: float = 240.0) -> list[int]:
        """Until all ranks of the attempt are done, or one has failed and the rest is killed; their exit codes."""
        ranks, deadline = self.attempts[-1], time.monotonic() + seconds
        while any(rank.exitcode is None for rank in ranks):
            if any(rank.exitcode for rank in ranks) or time.monotonic() > deadline:
                self.end()
            time.sleep(0.01)
        return [rank.exitcode or 0 for rank in ranks]

    def end(self) -> None:
        """Kill what is left of the attempt."""
        for rank in self.attempts[-1]:
            rank.kill()
            rank.join(30)

    def run(self, *kills: Kill) -> list[int]:
        """One attempt for each kill, and one that is left alone; the step at which each began."""
        for kill in kills:
            self.start(kill)
            assert -signal.SIGKILL in self.wait(), f"{kill} was not reached"
        self.start()
        assert self.wait() == [0] * RANKS
        return self.began()

    def lines(self) -> list[Line]:
        """Every step of every attempt."""
        path = self.folder / "losses.txt"
        return [Line(*json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    def began(self) -> list[int]:
        """For each attempt that came to a step, how many steps were behind it."""
        first: dict[int, int] = {}
        for line in self.lines():
            first.setdefault(line.attempt, line.step - 1)
        return list(first.values())

    def committed(self) -> list[int]:
        """Steps of committed checkpoints."""
        return committed_steps(self.store, home("r1"))

    def orphans(self) -> set[str]:
        """What lies below the checkpoints that no commit names."""
        at = home("r1")
        there = {key.removeprefix(f"{at}/") for key in self.store.list(at)}
        commits = [read_commit(self.store, at, step) for step in self.committed()]
        return (
            there
            - {"ATTEMPT.json"}
            - {name for commit in commits for name in (*commit.files, commit_name(commit.step))}
        )

    def state(self) -> dict[tuple[str, str], torch.Tensor]:
        """All numbers of the newest checkpoint."""
        saved: Saved = open_checkpoint(self.store, "r1")
        sizes = {name: int(torch.Size(shape).numel()) for name, shape in saved.shapes.items()}
        return {(slot, name): saved.find(slot, name, 0, size) for slot in saved.slots for name, size in sizes.items()}


def agree(training: Training, unbroken: Training) -> None:
    """The same losses and, at the end, the same numbers, to the last bit; and nothing else is left on the store."""
    expected = {line.step: line.loss for line in unbroken.lines()}
    found = training.lines()
    assert {line.step for line in found} == set(expected)
    assert [line for line in found if line.loss != expected[line.step]] == []
    ours, theirs = training.state(), unbroken.state()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert training.orphans() == set()


sys.modules.setdefault(Path(__file__).stem, sys.modules[__name__])
