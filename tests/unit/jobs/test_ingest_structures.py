"""Structures from other files than extended XYZ: ASE's formats, rMD17 archives, SDF."""

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pyarrow as pa
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from pydantic import ValidationError

from cluster.dataset.tensors import tensor_numpy
from cluster.errors import UserError
from jobs.ingest import source as pieces_of
from jobs.ingest import stretches
from jobs.ingest.source import Part, Source, Unread
from jobs.ingest.sources.ase_file import ASE
from jobs.ingest.sources.extxyz import EXTXYZ
from jobs.ingest.sources.npz_rmd17 import NPZ_RMD17
from jobs.ingest.sources.sdf import SDF


def read(source: Source, folder: Path, **params: Any) -> list[Part]:
    settings = source.settings(**params)
    return [source.read(settings, piece) for piece in source.plan(settings, folder)]


def whole(parts: list[Part]) -> pa.Table:
    return pa.concat_tables([part.table for part in parts])


# ASE


def labelled(atoms: Atoms, energy: float, **more: Any) -> Atoms:
    forces = np.arange(3.0 * len(atoms)).reshape(-1, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, **more)
    return atoms


def test_a_trajectory_of_ase_is_read_whatever_its_format(tmp_path: Path) -> None:
    frames = [labelled(molecule("H2O"), -14.0), labelled(molecule("CH3CH2OH"), -46.0)]
    for name, form in (("a.traj", "traj"), ("b.json", "json"), ("c.xyz", "extxyz")):
        ase.io.write(tmp_path / name, frames, format=form)
    table = whole(read(ASE, tmp_path, file=["a.traj", "b.json", "c.xyz"], group_by_file=True))
    assert table["id"].to_pylist() == [f"{name}-{i:06d}" for name in "abc" for i in range(2)]
    assert table["group"].to_pylist() == ["a.traj"] * 2 + ["b.json"] * 2 + ["c.xyz"] * 2
    assert table["energy"].to_pylist() == [-14.0, -46.0] * 3
    for row, atoms in zip(table.to_pylist(), frames * 3, strict=True):
        assert row["numbers"] == atoms.numbers.tolist()
        np.testing.assert_allclose(row["positions"], atoms.positions.ravel(), atol=1e-8)
        np.testing.assert_allclose(row["forces"], atoms.calc.results["forces"].ravel())


def test_a_crystal_has_its_cell_and_its_stress_as_a_matrix(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.traj", labelled(bulk("Si"), -10.0, stress=np.arange(1.0, 7.0)))
    table = whole(read(ASE, tmp_path, file="a.traj"))
    np.testing.assert_allclose(tensor_numpy(table["cell"])[0], bulk("Si").cell.array)
    assert tensor_numpy(table["pbc"]).tolist() == [[1, 1, 1]]
    assert tensor_numpy(table["stress"])[0].tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


def test_geometries_without_labels_and_a_named_format_are_read(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "POSCAR.old", bulk("NaCl", "rocksalt", 5.6), format="vasp")
    table = whole(read(ASE, tmp_path, file="POSCAR.old", format="vasp"))
    assert [sorted(numbers) for numbers in table["numbers"].to_pylist()] == [[11, 17]]
    assert "energy" not in table.column_names


@pytest.mark.parametrize(("name", "source"), [("a.traj", ASE), ("a.xyz", EXTXYZ)])
def test_a_single_atom_is_left_out_but_not_one_that_repeats(tmp_path: Path, name: str, source: Source) -> None:
    ase.io.write(tmp_path / name, [Atoms("Cu"), bulk("Cu")])
    (part,) = read(source, tmp_path, file=name)
    assert part.table["id"].to_pylist() == ["a-000001"]
    (part,) = read(source, tmp_path, file=name, skip_single_atoms=False)
    assert part.table["numbers"].to_pylist() == [[29], [29]]


def test_an_index_chooses_structures(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.traj", [labelled(molecule("H2O"), float(i)) for i in range(7)])
    assert whole(read(ASE, tmp_path, file="a.traj", index="::3"))["energy"].to_pylist() == [0.0, 3.0, 6.0]


def test_a_structure_without_the_labels_of_the_first_is_told_by_its_number(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.traj", [labelled(molecule("H2O"), -14.0), molecule("H2O")])
    (part,) = read(ASE, tmp_path, file="a.traj")
    assert list(part.unread) == [Unread("a.traj, structure 1", "no energy; it has nothing but atoms")]
    assert len(part.table) == 1


def test_a_file_that_ase_cannot_read_is_told(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.traj", labelled(molecule("H2O"), -14.0))
    (tmp_path / "b.traj").write_text("no trajectory")
    good, bad = read(ASE, tmp_path, file="*.traj")
    assert (len(good.table), len(bad.table)) == (1, 0)
    (problem,) = bad.unread
    assert problem.where == "b.traj, structure 0"
    assert "cannot read it" in problem.reason


def test_settings_of_ase_are_checked_before_any_file_is_opened() -> None:
    with pytest.raises(ValidationError, match="did you mean 'extxyz'"):
        ASE.settings(file="a", format="extxzy")
    with pytest.raises(ValidationError, match="not an index of ASE"):
        ASE.settings(file="a", index="all")


# rMD17


def archive(path: Path, frames: int = 4, **changes: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    arrays = {
        "nuclear_charges": np.array([8, 1, 1], dtype=np.uint8),
        "coords": rng.normal(size=(frames, 3, 3)),
        "energies": np.arange(frames) - 100.0,
        "forces": rng.normal(size=(frames, 3, 3)),
        **changes,
    }
    np.savez_compressed(path, **{name: values for name, values in arrays.items() if values.size})
    return str(path)


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_archives_are_read_as_they_are_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(pieces_of, "ROWS_A_PIECE", most)
    archive(tmp_path / "a.npz", 5)
    table = whole(read(NPZ_RMD17, tmp_path, file="a.npz", test_file=archive(tmp_path / "b.npz", 2)))
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(table["positions"].to_pylist()[:5], arrays["coords"].reshape(5, 9))
        np.testing.assert_array_equal(table["forces"].to_pylist()[:5], arrays["forces"].reshape(5, 9))
        assert table["energy"].to_pylist()[:5] == arrays["energies"].tolist()
    assert table["numbers"].to_pylist() == [[8, 1, 1]] * 7
    assert table["split"].to_pylist() == [""] * 5 + ["test"] * 2
    assert table["id"].to_pylist()[4:] == ["a-000004", "b-000000", "b-000001"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forces": np.empty(0)}, "has no array forces"),
        ({"forces": np.zeros((4, 2, 3))}, "do not fit each other"),
        ({"nuclear_charges": np.array([{}, {}, {}])}, "holds Python objects"),
    ],
)
def test_an_archive_of_another_format_is_refused(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(NPZ_RMD17, tmp_path, file=archive(tmp_path / "a.npz", **changes))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("not an archive")
    with pytest.raises(UserError, match="not an npz archive"):
        read(NPZ_RMD17, tmp_path, file="a.npz")


def test_arrays_in_the_order_of_fortran_are_read_as_they_are_meant(tmp_path: Path) -> None:
    coords = np.asfortranarray(np.random.default_rng(1).normal(size=(4, 3, 3)))
    archive(tmp_path / "a.npz", coords=coords)
    np.testing.assert_array_equal(
        whole(read(NPZ_RMD17, tmp_path, file="a.npz"))["positions"].to_pylist(), coords.reshape(4, 9)
    )


# SDF


def record(atoms: Atoms, title: str = "a molecule", items: str = "") -> str:
    lines = [title, " by a test", "", f"{len(atoms):3d}{0:3d}  0  0  0  0  0  0  0  0999 V2000"]
    for symbol, (x, y, z) in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:3s} 0  0  0  0  0  0  0  0  0  0  0  0")
    return "\n".join([*lines, "M  END", *([items] if items else []), "$$$$", ""])


NAMES = ("H2O", "CH3CH2OH", "C6H6", "NH3", "CH4")


@pytest.mark.parametrize("size", [1, 700, 10_000])
def test_molecules_of_an_sdf_are_what_ase_reads_record_by_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(stretches, "BYTES_A_PIECE", size)
    texts = [record(molecule(name)) for name in NAMES]
    (tmp_path / "a.sdf").write_text("".join(texts))
    table = whole(read(SDF, tmp_path, file="a.sdf"))
    assert table["id"].to_pylist() == [f"a-{i:06d}" for i in range(5)]
    for text, row in zip(texts, table.to_pylist(), strict=True):
        (tmp_path / "one.sdf").write_text(text)
        atoms: Any = ase.io.read(tmp_path / "one.sdf")
        assert row["numbers"] == atoms.numbers.tolist()
        assert row["positions"] == atoms.positions.ravel().tolist()


def test_the_counts_of_a_hundred_atoms_are_not_run_together(tmp_path: Path) -> None:
    large = Atoms("H104", positions=np.random.default_rng(0).normal(size=(104, 3)) * 9)
    (tmp_path / "a.sdf").write_text(record(large).replace("104  0", "104103"))
    assert [len(numbers) for numbers in whole(read(SDF, tmp_path, file="a.sdf"))["numbers"].to_pylist()] == [104]


def test_data_items_can_be_energy_and_group(tmp_path: Path) -> None:
    items = "> <energy>\n-1.5\n\n>  <mol> (1)\nwater\n"
    (tmp_path / "a.sdf").write_text(record(molecule("H2O"), items=items) + record(molecule("H2O")))
    (part,) = read(SDF, tmp_path, file="a.sdf", energy_key="energy", group_key="mol")
    assert part.table["energy"].to_pylist() == [-1.5]
    assert part.table["group"].to_pylist() == ["water"]
    assert list(part.unread) == [Unread("a.sdf:16", "no data item 'energy'; it has none")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("  3  0  0", "  4  0  0", 1), "it is no V2000 record"),
        (lambda text: text.replace("V2000", "V3000"), "it is written in V3000"),
        (lambda text: text.replace("0.0000", "O.OOOO", 1), "it is no V2000 record"),
        (lambda text: "\n".join(text.split("\n")[:6]) + "\n$$$$\n", "it is no V2000 record"),
    ],
)
def test_a_malformed_record_is_told_by_its_line_and_costs_itself_alone(
    tmp_path: Path, change: Any, reason: str
) -> None:
    good = record(molecule("H2O"))
    (tmp_path / "a.sdf").write_text(good + change(good) + good)
    (part,) = read(SDF, tmp_path, file="a.sdf")
    (problem,) = part.unread
    assert problem.where == "a.sdf:10"
    assert reason in problem.reason
    assert part.table["id"].to_pylist() == ["a-000000", "a-000002"]
