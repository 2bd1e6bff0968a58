"""Structures labelled as they are: the same whatever stands beside them, honest about failures, periodic ones too."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from cluster.dataset.conform import conform_piece
from cluster.dataset.publish import publish_table
from cluster.dataset.tensors import tensor_numpy
from cluster.errors import NotFoundError, UserError
from cluster.store import Store
from jobs.ingest.staging import parts_prefix, staged
from jobs.label import given as given_module
from jobs.label.calculators import Method, find_method
from jobs.label.geometry import Geometry
from jobs.label.given import Work, compute, label_chunk
from jobs.label.run_given import pending_chunks
from jobs.label.sources import Given, ListSource, open_source, read_geometries
from jobs.spec.frozen import Component
from jobs.spec.label import StructureSource


class Remembering(Calculator):
    """Lennard-Jones with a memory: what it is asked depends on what it kept, unless it is reset in between."""

    implemented_properties = ("energy", "forces")
    calls: ClassVar[int] = 0

    def __init__(self, broken: float | None = None) -> None:
        super().__init__()
        self.kept = 0.0
        self.broken = broken

    def reset(self) -> None:
        super().reset()
        self.kept = 0.0

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        Remembering.calls += 1
        distance = float(self.atoms.get_distance(0, 1))
        if self.broken is not None and distance > self.broken:
            raise CalculationFailed("SCF not converged\n in 250 cycles")
        self.results = {"energy": distance + self.kept, "forces": np.zeros((len(self.atoms), 3))}
        self.kept += 0.125


class Blind(Calculator):
    """Only an energy."""

    implemented_properties = ("energy",)

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        self.results = {"energy": 1.0}


def use(monkeypatch: pytest.MonkeyPatch, make: Any, **told: str) -> None:
    monkeypatch.setattr(given_module, "find_method", lambda spec: Method(None, make, (), told))


def work(*, stress: bool = False, store: str = "") -> Work:
    return Work(store, "r1", "digest", Component(name="any"), stress)


def pairs(*distances: float) -> list[Given]:
    atoms = [Atoms("N2", positions=[[0, 0, 0], [0, 0, d]]) for d in distances]
    given = ListSource("n2", [Geometry.of(each) for each in atoms]).structures()
    return [replace(each, split="train") for each in given]


def silicon(strain: float = 0.0) -> Any:
    atoms: Any = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain * np.diag([1.0, 0.0, 0.0])), scale_atoms=True)
    return atoms


def test_a_structure_gives_the_same_whatever_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda params: Remembering())
    together = compute(work(), pairs(1.0, 1.5, 2.0)).table
    alone = [compute(work(), [each]).table for each in pairs(1.0, 1.5, 2.0)]
    assert together is not None
    assert together["energy"].to_pylist() == [1.0, 1.5, 2.0]
    assert together.to_pylist() == [row for table in alone for row in table.to_pylist()]


def test_the_memory_of_a_calculator_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda params: Remembering())
    monkeypatch.setattr(Remembering, "reset", lambda self: Calculator.reset(self))
    table = compute(work(), pairs(1.0, 1.5)).table
    assert table is not None
    assert table["energy"].to_pylist() == [1.0, 1.625]


def test_a_structure_that_cannot_be_computed_is_left_out_with_its_name_and_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, lambda params: Remembering(broken=1.8))
    found = compute(work(), pairs(1.0, 2.0, 1.5))
    assert [(f.where, f.reason) for f in found.failures] == [("n2-000001", "SCF not converged in 250 cycles")]
    assert found.table is not None
    assert found.table["id"].to_pylist() == ["n2-000000", "n2-000002"]


def test_a_chunk_without_a_single_success_is_stored_too(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    use(monkeypatch, lambda params: Remembering(broken=0.0))
    label_chunk(work(store=store.uri), 0, pairs(1.0, 2.0))
    assert compute(work(), pairs(1.0, 2.0)).table is None
    (index,) = staged(store, "r1", ["digest-0"]).values()
    assert (len(index.rows), index.schema, index.unread_count) == (0, None, 2)
    assert staged(store, "r1", ["another-0"]) == {}


def test_a_number_that_is_none_counts_as_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda params: Remembering())
    (failure,) = compute(work(), pairs(float("inf"))).failures
    assert "finite" in failure.reason


def test_the_bytes_of_a_chunk_follow_from_its_structures_alone(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    use(monkeypatch, lambda params: Remembering())

    def files(run: str, *distances: float) -> list[bytes]:
        label_chunk(replace(work(store=store.uri), run=run), 0, pairs(*distances))
        return [store.read(key) for key in store.list(parts_prefix(run))]

    assert len(files("r1", 1.0, 1.5)) == 2
    assert files("r1", 1.0, 1.5) == files("r2", 1.0, 1.5)
    assert files("r1", 1.0, 1.5) != files("r3", 1.0, 1.25)


def test_periodic_silicon_has_the_stress_of_its_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda params: LennardJones(sigma=2.1, epsilon=0.4, rc=5.0, smooth=True))
    (given,) = ListSource("si", [Geometry.of(silicon())]).structures()
    table = compute(work(stress=True), [given]).table
    assert table is not None
    stress = tensor_numpy(conform_piece(_assigned(table), "structures")["stress"])[0]

    def energy(strain: float) -> float:
        atoms = silicon(strain)
        atoms.calc = LennardJones(sigma=2.1, epsilon=0.4, rc=5.0, smooth=True)
        return float(atoms.get_potential_energy())

    numeric = (energy(1e-5) - energy(-1e-5)) / 2e-5 / silicon().get_volume()
    assert abs(numeric) > 1e-3
    assert stress[0, 0] == pytest.approx(numeric, rel=1e-5)
    np.testing.assert_allclose(tensor_numpy(table["cell"])[0], silicon().cell.array)
    assert tensor_numpy(table["pbc"])[0].tolist() == [1, 1, 1]


def test_structures_that_do_not_repeat_have_no_stress_and_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda params: LennardJones())
    table = compute(work(), pairs(1.0)).table
    assert table is not None
    assert not {"stress", "cell", "pbc"} & set(table.column_names)


def test_a_molecule_beside_a_crystal_gets_a_cell_of_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda params: EMT())
    source = ListSource("x", [Geometry.of(bulk("Cu")), Geometry.of(molecule("H2"))])
    assert not source.has_stress
    table = compute(work(), list(source.structures())).table
    assert table is not None
    assert tensor_numpy(table["pbc"]).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert not tensor_numpy(table["cell"])[1].any()
    conform_piece(_assigned(table), "structures")


def test_a_method_without_forces_gives_energies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda params: Blind())
    table = compute(work(), pairs(1.0)).table
    assert table is not None
    assert "forces" not in table.column_names


def test_the_charge_and_spin_of_a_structure_replace_those_of_the_method() -> None:
    geometry = Geometry.of(molecule("OH"))
    charged = Geometry(geometry.numbers, geometry.positions, charge=-1.0, spin=1)
    chosen = Component(name="tblite", params={"method": "GFN1-xTB"})
    table = compute(
        Work("", "r1", "", chosen, False), [Given("a", "a", "train", charged), Given("b", "b", "train", charged)]
    ).table
    assert table is not None
    atoms = geometry.atoms()
    atoms.calc = find_method(chosen).calculator({**chosen.params, "charge": -1, "multiplicity": 1})
    assert table["energy"].to_pylist() == [pytest.approx(atoms.get_potential_energy(), abs=1e-9)] * 2
    assert table["charge"].to_pylist() == [-1.0, -1.0]


def test_only_chunks_that_are_missing_are_computed() -> None:
    source = ListSource("n2", [given.geometry for given in pairs(*np.linspace(1, 2, 7))])
    pending = list(pending_chunks(source.structures(), 3, frozenset({1})))
    assert [(number, [g.id[-1] for g in chunk]) for number, chunk in pending] == [(0, ["0", "1", "2"]), (2, ["6"])]


def test_any_file_of_ase_is_read_with_its_cells_charges_and_spins(tmp_path: Path) -> None:
    frames = [silicon(), molecule("H2O")]
    for charge, frame in enumerate(frames):
        frame.info.update(charge=charge, spin=1 + charge)
    ase.io.write(tmp_path / "a.json", frames)  # ASE's database as JSON forgets info
    ase.io.write(tmp_path / "a.traj", frames)
    crystal, water = read_geometries(tmp_path / "a.traj")
    np.testing.assert_array_equal(crystal.cell, silicon().cell.array)
    assert crystal.has_stress
    assert (water.cell, water.charge, water.spin) == (None, 1.0, 2)
    assert read_geometries(tmp_path / "a.json")[0].charge is None


def test_a_file_that_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing\.xyz"):
        read_geometries(tmp_path / "nothing.xyz")
    (tmp_path / "wrong.xyz").write_text("two\natoms\n")
    with pytest.raises(UserError, match=r"wrong\.xyz"):
        read_geometries(tmp_path / "wrong.xyz")


def test_structures_of_a_dataset_keep_their_names_groups_and_splits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, lambda params: EMT())
    geometries = [Geometry.of(bulk("Cu", a=3.5 + i / 10, cubic=bool(i % 2))) for i in range(6)]
    splits = ["train", "test", "train", "valid", "train", "train"]
    named = [Given(f"s{5 - i}", f"g{i // 2 if i > 3 else i}", splits[i], g) for i, g in enumerate(geometries)]
    table = compute(work(stress=True), named).table
    reference = publish_table(store, "copper", table, kind="structures", provenance={}).manifest.ref
    source = open_source(StructureSource(dataset=reference), Path(), store)
    assert source.count == 6
    assert source.has_stress
    again = list(source.structures())
    assert [(g.id, g.split) for g in again] == [
        ("s5", "train"), ("s3", "train"), ("s1", "train"), ("s0", "train"), ("s2", "valid"), ("s4", "test"),
    ]  # fmt: skip
    relabelled = compute(work(stress=True), again).table
    republished = publish_table(store, "copper", relabelled, kind="structures", provenance={})
    assert republished.existed
    only = open_source(StructureSource(dataset=reference, split="valid"), Path(), store)
    assert [g.id for g in only.structures()] == ["s2"]
    assert only.identity != source.identity


def test_a_split_without_rows_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda params: Remembering())
    table = _assigned(compute(work(), pairs(1.0)).table)
    publish_table(store, "n2", table, kind="structures", provenance={})
    with pytest.raises(UserError, match="no structure in the test split"):
        open_source(StructureSource(dataset="n2@1", split="test"), Path(), store)


def _assigned(table: Any) -> Any:
    return table.set_column(table.column_names.index("split"), "split", [["train"] * table.num_rows])
