"""Runs of kind label over given structures, without Ray: resumed, split before anything is computed, published."""

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from rich.console import Console

from cluster.context import RunContext
from cluster.dataset.commit import Published
from cluster.dataset.read import read_table
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.session import Session
from cluster.stopping import Stop
from cluster.store import Store, open_store
from jobs.ingest.schedule import in_turn
from jobs.label import calculators
from jobs.label.calculators import Method
from jobs.label.given import label_chunk
from jobs.label.run_given import run_given
from jobs.spec.label import GivenSampling, LabelSpec


class Counting(Calculator):
    """The distance of two atoms as an energy; counts, and fails beyond a length."""

    implemented_properties = ("energy", "forces")
    calls: ClassVar[int] = 0
    broken: ClassVar[float] = np.inf

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        Counting.calls += 1
        distance = float(self.atoms.get_distance(0, 1))
        if distance > self.broken:
            raise CalculationFailed("SCF not converged")
        self.results = {"energy": distance, "forces": np.zeros((2, 3))}


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "calls", 0)
    monkeypatch.setattr(Counting, "broken", np.inf)
    monkeypatch.setitem(calculators.METHODS, "counting", Method(None, lambda params: Counting(), ()))


def context(store: Store, run: str = "r1", stop: Callable[[], bool] = lambda: False) -> RunContext:
    progress = Progress(console=Console(file=StringIO()), store=store, run_id=run)
    return RunContext(run, store, progress, Path(), False, stop, Session("", embedded=True))


def spec(tmp_path: Path, distances: Any = None, **changes: Any) -> LabelSpec:
    distances = np.linspace(1, 2, 20) if distances is None else distances
    ase.io.write(tmp_path / "n2.traj", [Atoms("N2", positions=[[0, 0, 0], [0, 0, d]]) for d in distances])
    data = {
        "kind": "label",
        "name": "n2",
        "structures": {"file": str(tmp_path / "n2.traj")},
        "method": {"name": "counting"},
        "sampling": {"name": "given", "params": {"chunk": 3}},
        "split": {"by": "random", "valid": 0.2, "test": 0.2},
    }
    return LabelSpec.model_validate({**data, **changes})


class PowerCut(BaseException):
    """Nobody tidies up after it."""


def label(spec: LabelSpec, context: RunContext, chunks: int | None = None) -> Published:
    """Run in this process; cut off after so many chunks."""

    def one_by_one(work: Any, pending: Any, stop: Callable[[], bool]) -> Iterator[Any]:
        for done, (number, given) in enumerate(pending):
            if done == chunks:
                raise PowerCut
            if stop():
                return
            yield label_chunk(work, number, given)

    assert isinstance(spec.sampling, GivenSampling)
    return run_given(spec, spec.sampling.params, context, one_by_one, in_turn)


def test_a_run_that_was_cut_off_computes_nothing_twice_and_publishes_the_same(tmp_path: Path, store: Store) -> None:
    whole = label(spec(tmp_path), context(open_store(str(tmp_path / "other")))).manifest
    Counting.calls = 0
    with pytest.raises(PowerCut):
        label(spec(tmp_path), context(store), chunks=4)
    assert Counting.calls == 12
    assert not store.list("datasets")
    before = {key: store.read(key) for key in store.list("runs/r1/parts")}
    assert len(before) == 8
    with pytest.raises(PowerCut):
        label(spec(tmp_path), context(store), chunks=2)
    assert {key: store.read(key) for key in before} == before
    manifest = label(spec(tmp_path), context(store)).manifest
    assert Counting.calls == 20
    assert manifest.digest == whole.digest
    assert manifest.shards == whole.shards
    assert not store.list("runs/r1/parts")


def test_chunks_of_another_size_give_the_same_dataset(tmp_path: Path, store: Store) -> None:
    first = label(spec(tmp_path), context(store, "r1"))
    other = spec(tmp_path, sampling={"name": "given", "params": {"chunk": 7}})
    assert label(other, context(store, "r2")).existed
    assert first.manifest.splits == {"train": 12, "valid": 4, "test": 4}


def test_what_another_spec_has_finished_is_not_this_runs_work(tmp_path: Path, store: Store) -> None:
    with pytest.raises(PowerCut):
        label(spec(tmp_path), context(store), chunks=4)
    Counting.calls = 0
    label(spec(tmp_path, method={"name": "counting", "params": {"a": 1}}), context(store))
    assert Counting.calls == 20


def test_a_stop_keeps_what_is_finished(tmp_path: Path, store: Store) -> None:
    with pytest.raises(Stop):
        label(spec(tmp_path), context(store, stop=lambda: Counting.calls >= 6))
    label(spec(tmp_path), context(store))
    assert Counting.calls == 20


def test_structures_that_cannot_be_computed_are_in_the_manifest(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {row["id"]: row["split"] for row in _rows(store, label(spec(tmp_path), context(store)))}
    monkeypatch.setattr(Counting, "broken", 1.9)
    published = label(spec(tmp_path), context(store, "r2"))
    skipped = published.manifest.skipped
    assert skipped.count == 2
    assert list(skipped.listed) == [{"where": f"n2-{number:06d}", "reason": "SCF not converged"} for number in (18, 19)]
    rows = _rows(store, published)
    assert len(rows) == 18
    # Whoever fails: the others stay where they were.
    assert {row["id"]: row["split"] for row in rows} == {k: v for k, v in splits.items() if k < "n2-000018"}


def test_a_method_that_computes_nothing_ends_the_run_with_its_reason(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "broken", 0.0)
    with pytest.raises(UserError, match=r"failed on every one of 20 structures.*SCF not converged"):
        label(spec(tmp_path), context(store))
    Counting.calls = 0
    with pytest.raises(UserError, match="failed on every one of 102 structures"):
        label(spec(tmp_path, np.linspace(1, 2, 500)), context(store, "r2"))
    assert Counting.calls == 102


def test_copies_are_refused_before_anything_is_computed(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UserError, match="more than one split"):
        label(spec(tmp_path, [1.0] * 20), context(store))
    assert Counting.calls == 0


def test_copies_that_are_dropped_are_not_computed_either(tmp_path: Path, store: Store) -> None:
    split = {"valid": 0.2, "test": 0.2, "duplicates": "drop"}
    manifest = label(spec(tmp_path, [1.0] * 10 + list(np.linspace(1.5, 2, 10)), split=split), context(store)).manifest
    dropped = manifest.provenance["split"]["copies_dropped"]
    assert dropped > 0
    assert manifest.rows == Counting.calls == 20 - dropped


def test_splits_by_composition_hold_out_whole_formulas(tmp_path: Path, store: Store) -> None:
    there = spec(tmp_path, split={"by": "composition", "valid": 1, "test": 1})
    names = ["N2", "O2", "CO", "H2", "NO"]
    frames = [Atoms(names[i % 5], positions=[[0, 0, 0], [0, 0, 1 + i / 50]]) for i in range(20)]
    ase.io.write(tmp_path / "n2.traj", frames)
    published = label(there, context(store))
    assert published.manifest.splits == {"train": 12, "valid": 4, "test": 4}
    held_out = {tuple(row["numbers"]) for row in _rows(store, published) if row["split"] != "train"}
    trained = {tuple(row["numbers"]) for row in _rows(store, published) if row["split"] == "train"}
    assert len(held_out) == 2
    assert not held_out & trained


def test_a_dataset_is_labelled_again_with_its_own_splits(tmp_path: Path, store: Store) -> None:
    first = label(spec(tmp_path), context(store)).manifest
    again = spec(tmp_path, structures={"dataset": first.ref}, split={"by": "dataset"}, **{"as": "relabelled"})
    second = label(again, context(store, "r2"))
    assert _rows(store, second) == _rows(store, Published(first))
    only = spec(tmp_path, structures={"dataset": first.ref, "split": "test"}, split={"by": "dataset"})
    assert label(only, context(store, "r3")).manifest.splits == {"test": 4}
    drawn = spec(tmp_path, structures={"dataset": first.ref}, split={"by": "random", "valid": 0, "test": 0.5})
    assert label(drawn, context(store, "r4")).manifest.splits == {"train": 10, "test": 10}


def _rows(store: Store, published: Published) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(store, published.manifest.ref).to_pylist()
    return rows
