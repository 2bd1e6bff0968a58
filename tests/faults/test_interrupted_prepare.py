"""A label or prepare run whose driver is killed goes on where it was, repeats nothing, and publishes the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pyarrow as pa
import pytest
from ase import Atoms

from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.publish import publish_table
from cluster.dataset.read import load_manifest, read_table
from cluster.dataset.verify import verify_dataset
from cluster.registry import publish_model
from cluster.runs import load_run
from cluster.store import Store, open_store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import save_model
from jobs.ingest.columns import table_of
from jobs.ingest.structures import Structure, structure_columns

pytestmark = pytest.mark.timeout(1800)

HERE = Path(__file__).parent
EQUI = [sys.executable, "-c", "from cluster.cli import main; main()"]
RUN_S = 150.0  # a whole run on a free machine, with room
GONE_S = 20.0
STRUCTURES, CHUNK = 240, 4

LABEL = """
kind: label
name: n2
structures: {file: n2.traj}
method: {name: "slow_calculator:Slow", params: {log: LOG, seconds: 0.05}}
sampling: {name: given, params: {chunk: 4}}
split: {by: random, valid: 0.1, test: 0.1}
"""

PREPARE = """
kind: prepare
name: taught
data: {uri: datasets/carbon@1}
steps:
  - {name: filter, params: {max_atoms: 11}}
  - {name: neighbours, params: {cutoff: 3.0}}
  - {name: features, params: {model: teacher, batch: 1}}
"""


@dataclass
class Site:
    """A folder with a store and specs, and how to start `equi` there."""

    folder: Path
    store: Store
    start: Callable[..., AbstractContextManager[Any]]
    stretch: float

    def equi(self, *words: str) -> AbstractContextManager[Any]:
        """A command whose processes are all known; workers find the calculator of this folder."""
        return self.start([*EQUI, *words, "--cpus", "2"], self.folder, {"PYTHONPATH": str(HERE)})

    def finished(self, run: str) -> dict[str, int]:
        """When each finished piece of a run was written."""
        folder = Path(self.store.uri.removeprefix("file://"))
        found = {}
        for key in self.store.list(f"runs/{run}/parts"):
            if key.endswith(".index.arrow"):
                try:
                    found[key] = (folder / key).stat().st_mtime_ns
                except FileNotFoundError:  # published meanwhile, and removed
                    continue
        return found

    def killed(self, spec: str, run: str, pieces: int) -> dict[str, int]:
        """Submit, and kill the driver when so many pieces are finished; returns those."""
        with self.equi("submit", spec, "--id", run) as running:
            deadline = time.monotonic() + RUN_S * self.stretch
            while len(self.finished(run)) < pieces:
                assert time.monotonic() < deadline, running.output
                time.sleep(0.02)
            os.kill(load_run(self.store, run).where.pid, signal.SIGKILL)
            assert running.left_after(GONE_S * self.stretch) == {}
        assert self.status(run) == "lost"
        assert not self.store.list(f"datasets/{'n2' if run == 'label' else 'taught'}")
        return self.finished(run)

    def resumed(self, run: str, before: dict[str, int]) -> DatasetManifest:
        """Go on with a run; what was finished before is not written again."""
        seen: list[dict[str, int]] = []
        with self.equi("resume", run, "--follow") as running:
            while running.process.poll() is None:
                seen.append(self.finished(run))
                time.sleep(0.05)
            assert running.exit_code(5) == 0, running.output
            assert running.left_after(GONE_S * self.stretch) == {}
            assert f"{len(before)} of " in running.output
        assert max(len(found) for found in seen) > len(before)
        assert all(found.get(key, at) == at for found in seen for key, at in before.items())
        return self.made(run)

    def unbroken(self, spec: str, run: str) -> DatasetManifest:
        with self.equi("submit", spec, "--id", run, "--follow") as running:
            assert running.exit_code(RUN_S * self.stretch) == 0, running.output
        return self.made(run)

    def made(self, run: str) -> DatasetManifest:
        manifest = load_manifest(self.store, load_run(self.store, run).outputs["dataset"])
        assert verify_dataset(self.store, manifest.ref) == []
        assert not self.store.list(f"runs/{run}/parts")
        return manifest

    def status(self, run: str) -> str:
        done = subprocess.run(
            [*EQUI, "status", run, "--json"], cwd=self.folder, capture_output=True, text=True, timeout=300, check=True
        )
        found: str = json.loads(done.stdout)["status"]
        return found


@pytest.fixture
def site(tmp_path: Path, start: Any, stretch: float) -> Site:
    return Site(tmp_path, open_store(str(tmp_path / ".equi" / "store")), start, stretch)


def test_a_killed_label_run_computes_no_finished_structure_again(site: Site) -> None:
    distances = np.linspace(1, 2, STRUCTURES)
    ase.io.write(site.folder / "n2.traj", [Atoms("N2", positions=[[0, 0, 0], [0, 0, d]]) for d in distances])
    (site.folder / "label.yaml").write_text(LABEL.replace("LOG", str(site.folder / "log")))
    before = site.killed("label.yaml", "label", 8)
    assert 8 <= len(before) < STRUCTURES // CHUNK
    manifest = site.resumed("label", before)
    assert manifest.rows == STRUCTURES
    computed = Counter((site.folder / "log").read_text().split())
    finished = {int(Path(key).name[1:6]) for key in before}
    for number in finished:
        for distance in distances[number * CHUNK : (number + 1) * CHUNK]:
            assert computed[f"{distance:.6f}"] == 1
    # Lost are at most the chunks that both workers had under way.
    assert STRUCTURES <= sum(computed.values()) <= STRUCTURES + 2 * CHUNK
    # The same structures again, without a break, are the version that is there.
    assert site.unbroken("label.yaml", "unbroken").ref == manifest.ref


def test_a_killed_preparation_does_no_finished_row_group_again(site: Site) -> None:
    publish_carbon(site.store)
    publish_teacher(site.store, site.folder / "model")
    (site.folder / "prepare.yaml").write_text(PREPARE)
    before = site.killed("prepare.yaml", "prepare", 6)
    groups = sum(len(shard.groups) for shard in load_manifest(site.store, "carbon@1").shards)
    assert 6 <= len(before) < groups
    manifest = site.resumed("prepare", before)
    assert {"edges", "teacher_energy", "teacher_forces"} <= {column.name for column in manifest.columns}
    assert 0 < manifest.rows < load_manifest(site.store, "carbon@1").rows
    assert site.unbroken("prepare.yaml", "unbroken").ref == manifest.ref
    table = read_table(site.store, manifest.ref)
    assert max(len(row) for row in table["numbers"].to_pylist()) == 11


def publish_carbon(store: Store) -> None:
    """40 row groups of 64 structures."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) * 1.5
    made = [
        Structure(np.full(size, 6), grid[rng.permutation(27)[:size]] + rng.normal(0, 0.1, (size, 3)))
        for size in rng.integers(6, 13, 40 * 64)
    ]
    table = table_of(pa.array([f"c{row:05d}" for row in range(len(made))]), structure_columns(made), "train")
    publish_table(store, "carbon", table, kind="structures", provenance={}, rows_per_shard=64)


def publish_teacher(store: Store, folder: Path) -> None:
    facts = {"species": [6], "reference_energies": [-8.0], "force_rms": 1.0, "mean_neighbours": 4.0}
    params = {"lmax": 2, "channels": 16, "layers": 2, "cutoff": 3.0}
    embedding = {"radial": {"name": "bessel", "params": {"number": 8}}}
    description = ModelDescription("gaunt_potential", params, embedding, facts)
    save_model(folder, assemble(description), description)
    publish_model(store, "teacher", folder, {"run": "r0"})
