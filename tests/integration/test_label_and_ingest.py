"""Real quantum chemistry through Ray: a small label run, stopped halfway, resumed, and repeated."""

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from rich.console import Console

from cluster.context import RunContext
from cluster.dataset.read import load_manifest, read_table
from cluster.dataset.verify import verify_dataset
from cluster.errors import ConflictError, UserError
from cluster.progress import Progress
from cluster.session import Session, open_session
from cluster.stopping import Stop
from cluster.store import Store, open_store
from jobs.ingest.run import run as ingest
from jobs.label.run import run as label
from jobs.spec.dataset import DatasetSpec
from jobs.spec.label import LabelSpec

pytestmark = pytest.mark.integration

SPEC: dict[str, Any] = {
    "kind": "label",
    "name": "water",
    "seed": 3,
    "structures": {"molecule": "water"},
    "method": {"name": "tblite", "params": {"method": "GFN2-xTB"}},
    # 60 frames: three chunks of a trajectory, so that there is a chain to interrupt.
    "sampling": {
        "name": "md",
        "params": {"temperature_K": 300, "trajectories": 3, "frames": 60, "every_fs": 1, "equilibrate_fs": 5},
    },
}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with open_session(home=tmp_path_factory.mktemp("home"), cpus=2) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def context(store: Store, session: Session, run: str = "r1", stop: Any = lambda: False) -> RunContext:
    progress = Progress(console=Console(file=StringIO()), store=store, run_id=run)
    return RunContext(run, store, progress, Path(store.uri.removeprefix("file://")), False, stop, session)


def changed(**params: Any) -> LabelSpec:
    sampling = {"name": "md", "params": {**SPEC["sampling"]["params"], **params}}
    return LabelSpec.model_validate({**SPEC, "sampling": sampling})


def test_a_label_run_publishes_real_energies_and_forces_split_by_trajectory(store: Store, session: Session) -> None:
    outputs = label(LabelSpec.model_validate(SPEC), context(store, session))
    assert outputs["rows"] == 180
    assert outputs["splits"] == {"train": 60, "valid": 60, "test": 60}
    table = read_table(store, outputs["dataset"])
    # GFN2-xTB water is at -137.97 eV in its minimum (tblite's own documentation); 300 K adds some tenths.
    energies = table["energy"].to_numpy()
    assert -137.98 < energies.min() < energies.max() < -136.5
    manifest = load_manifest(store, outputs["dataset"])
    assert manifest.provenance["programs"]["tblite"]
    assert manifest.provenance["method"] == SPEC["method"]
    assert (outputs["failed"], manifest.skipped.count) == (0, 0)
    verify_dataset(store, outputs["dataset"])


def test_a_stopped_run_goes_on_after_its_chunks_and_gives_what_an_unbroken_one_gives(
    store: Store, session: Session, tmp_path: Path
) -> None:
    spec = LabelSpec.model_validate(SPEC)
    key = "runs/r1/chunks"
    with pytest.raises(Stop):
        label(spec, context(store, session, stop=lambda: len(store.list(key)) >= 2))
    folder = Path(store.uri.removeprefix("file://"))
    kept = {name: (folder / name).stat().st_mtime_ns for name in store.list(key)}
    assert 2 <= len(kept) < 9
    assert not store.list("datasets")
    resumed = label(spec, context(store, session))
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept, "a finished chunk was computed again"
    unbroken = label(spec, context(open_store(str(tmp_path / "other")), session))
    assert resumed["digest"] == unbroken["digest"]


def test_structures_of_a_file_are_labelled_as_they_are_with_stress_where_they_repeat(
    store: Store, session: Session, tmp_path: Path
) -> None:
    frames = [bulk("Cu", cubic=True) for _ in range(30)]
    for number, frame in enumerate(frames):
        frame.rattle(0.05, seed=number)
    frames[7].positions[1] = frames[7].positions[0]  # two atoms in one place: no energy
    ase.io.write(tmp_path / "copper.traj", frames)
    data = {
        "kind": "label",
        "name": "copper",
        "structures": {"file": str(tmp_path / "copper.traj")},
        "method": {"name": "ase.calculators.lj:LennardJones", "params": {"sigma": 2.3, "epsilon": 0.4}},
        "sampling": {"name": "given", "params": {"chunk": 4}},
        "split": {"by": "random", "valid": 4, "test": 4},
    }
    outputs = label(LabelSpec.model_validate(data), context(store, session))
    assert (outputs["rows"], outputs["failed"]) == (29, 1)
    (skipped,) = load_manifest(store, outputs["dataset"]).skipped.listed
    assert skipped["where"] == "copper-000007"
    for row in read_table(store, outputs["dataset"]).to_pylist():
        atoms = frames[int(row["id"].removeprefix("copper-"))]
        atoms.calc = LennardJones(sigma=2.3, epsilon=0.4)
        assert row["energy"] == atoms.get_potential_energy()
        np.testing.assert_array_equal(np.reshape(row["stress"], (3, 3)), atoms.get_stress(voigt=False))
        np.testing.assert_array_equal(np.reshape(row["cell"], (3, 3)), atoms.cell.array)
    assert not store.list("runs/r1/parts")
    assert verify_dataset(store, outputs["dataset"]) == []
    progress = json.loads(store.read("runs/r1/progress.json"))
    (bar,) = (task for task in progress["tasks"] if task["title"] == "label")
    assert (bar["completed"], bar["unit"], bar["info"]) == (30, "structures", {"failed": 1})
    assert bar["rate"] > 0


def test_a_run_refuses_the_chunks_of_another_spec(store: Store, session: Session) -> None:
    label(changed(frames=5), context(store, session))
    with pytest.raises(ConflictError, match="made by another spec"):
        label(changed(frames=5, temperature_K=200), context(store, session))


def test_an_element_the_method_does_not_know_ends_the_run_with_its_name(
    store: Store, session: Session, tmp_path: Path
) -> None:
    (tmp_path / "u.xyz").write_text("2\nProperties=species:S:1:pos:R:3\nFm 0 0 0\nFm 0 0 2\n")
    spec = LabelSpec.model_validate({**SPEC, "structures": {"file": str(tmp_path / "u.xyz")}})
    with pytest.raises(UserError, match="cannot compute the first geometry of Fm2"):
        label(spec, context(store, session))
    assert not store.list("datasets")


def test_the_digits_are_ingested_with_each_label_in_its_share(store: Store, session: Session) -> None:
    spec = DatasetSpec.model_validate(
        {"kind": "dataset", "name": "digits", "source": {"name": "digits"}, "split": {"valid": 0.1, "test": 0.2}}
    )
    outputs = ingest(spec, context(store, session))
    assert (outputs["rows"], outputs["splits"]) == (1797, {"train": 1258, "valid": 180, "test": 359})
    table = read_table(store, outputs["dataset"], split="test")
    counts = [table["label"].to_pylist().count(digit) for digit in range(10)]
    everything = read_table(store, outputs["dataset"])["label"].to_pylist()
    assert all(abs(counts[digit] - 0.2 * everything.count(digit)) <= 1 for digit in range(10))
    assert load_manifest(store, outputs["dataset"]).statistics["shape"] == [1, 8, 8]
