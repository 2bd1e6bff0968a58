"""Units and reference energies: by the constants of ASE, and back again; digests and sizes of rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ase import units
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dataset.layout import content_bytes
from cluster.dataset.tensors import tensor_array, tensor_numpy
from cluster.errors import UserError
from jobs.ingest.columns import table_of
from jobs.ingest.content import formulas, row_bytes, row_digests
from jobs.ingest.conversion import Factors, convert, factors, held
from jobs.ingest.reference import reference_energies, subtract
from jobs.ingest.sources.npz_rmd17 import NPZ_RMD17
from jobs.ingest.structures import Structure, structure_columns
from jobs.spec.dataset import ReferenceFile
from jobs.spec.units import ENERGIES, LENGTHS, PRESSURES, Units

OWN = Units(length="angstrom", energy="eV")


def structures(*atoms: Any, **labels: Any) -> pa.Table:
    made = [Structure(a.numbers, a.positions, a.cell.array, a.pbc, dict(labels)) for a in atoms]
    return table_of(pa.array([f"s{i}" for i in range(len(made))]), structure_columns(made))


SILICON = structures(bulk("Si"), energy=-3.0, forces=np.arange(6.0).reshape(2, 3), stress=np.ones((3, 3)))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Units(), Factors(1, 1, 1, 1)),
        (Units(length="nm"), Factors(10, 1, 0.1, 0.001)),
        (
            Units(length="bohr", energy="hartree"),
            Factors(units.Bohr, units.Hartree, units.Hartree / units.Bohr, units.Hartree / units.Bohr**3),
        ),
        (Units(energy="Ry", forces="Ry/bohr", stress="kbar"),
         Factors(1, units.Ry, units.Ry / units.Bohr, units.GPa / 10)),
        (Units(energy="kJ/mol", forces="kcal/mol/angstrom", stress="GPa"),
         Factors(1, units.kJ / units.mol, units.kcal / units.mol, units.GPa)),
        (Units(energy="meV", stress="eV/angstrom^3"), Factors(1, 1e-3, 1e-3, 1)),
        (Units(length="pm", stress="Pa"), Factors(0.01, 1, 100, units.Pascal)),
        (Units(stress="bar"), Factors(1, 1, 1, units.bar)),
    ],
)  # fmt: skip
def test_factors_are_those_of_ase(said: Units, expected: Factors) -> None:
    found = factors(held(said, OWN))
    for name in ("length", "energy", "forces", "stress"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-14)


def test_a_kilocalorie_per_mol_is_what_its_definition_says() -> None:
    # 4184 J / 6.02214076e23 / 1.602176634e-19 C; CODATA 2014, which ASE has, differs in the eighth digit.
    assert NPZ_RMD17.units is not None
    found = factors(held(Units(), NPZ_RMD17.units))
    assert found.energy == found.forces == pytest.approx(4184 / 6.02214076e23 / 1.602176634e-19, rel=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    length=st.sampled_from(LENGTHS),
    energy=st.sampled_from(ENERGIES),
    stress=st.sampled_from((*PRESSURES, None)),
)
def test_there_and_back_is_where_it_began(length: Any, energy: Any, stress: str | None) -> None:
    there = factors(held(Units(length=length, energy=energy, stress=stress), OWN))
    back = Factors(1 / there.length, 1 / there.energy, 1 / there.forces, 1 / there.stress)
    found = convert(convert(SILICON, there), back)
    assert found.schema == SILICON.schema
    for name in ("positions", "forces"):
        np.testing.assert_allclose(found[name].to_pylist(), SILICON[name].to_pylist(), rtol=1e-14)
    for name in ("cell", "stress"):
        np.testing.assert_allclose(tensor_numpy(found[name]), tensor_numpy(SILICON[name]), rtol=1e-14)
    assert found["energy"].to_pylist() == pytest.approx([-3.0], rel=1e-14)
    assert found["numbers"].equals(SILICON["numbers"])
    assert found["pbc"].combine_chunks().equals(SILICON["pbc"].combine_chunks())


def test_a_wrong_factor_would_be_noticed() -> None:
    there = factors(held(Units(length="bohr"), OWN))
    found = convert(convert(SILICON, there), Factors(1 / 0.529, 1, 1, 1))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found["positions"].to_pylist(), SILICON["positions"].to_pylist(), rtol=1e-14)


def test_numbers_in_the_right_units_are_not_touched() -> None:
    assert convert(SILICON, factors(held(Units(), OWN))) is SILICON


# Reference energies


def test_energies_of_atoms_are_subtracted_in_double_precision() -> None:
    table = structures(molecule("CH3CH2OH"), molecule("H2O"), energy=-4209.5)
    found = subtract(table, {1: -13.587222780835477, 6: -1029.4889999855063, 8: -2041.9816003861047})
    slow = [
        -4209.5 - (6 * -13.587222780835477 + 2 * -1029.4889999855063 + -2041.9816003861047),
        -4209.5 - (2 * -13.587222780835477 + -2041.9816003861047),
    ]
    assert found["energy"].to_pylist() == pytest.approx(slow, abs=1e-9)


def test_an_element_without_a_reference_energy_is_named() -> None:
    with pytest.raises(UserError, match="no reference energy of O") as caught:
        subtract(structures(molecule("H2O"), energy=0.0), {1: -13.0, 6: -1000.0})
    assert "there are H, C" in str(caught.value.allowed)
    with pytest.raises(UserError, match="structures have no energy"):
        subtract(structures(molecule("H2O")), {1: -13.0})


ISOLATED = (
    "1\nProperties=species:S:1:pos:R:3 energy=-0.5\nH 0 0 0\n1\nProperties=species:S:1:pos:R:3 energy=-37\nC 0 0 0\n"
)


def references(folder: Path, text: str) -> dict[int, float]:
    (folder / "atoms.xyz").write_text(text)
    return reference_energies(ReferenceFile(file="atoms.xyz"), folder, energy_key="energy", in_ev=units.Hartree)


def test_reference_energies_come_from_a_file_of_atoms_in_the_units_of_the_source(tmp_path: Path) -> None:
    assert references(tmp_path, ISOLATED) == {1: -0.5 * units.Hartree, 6: -37 * units.Hartree}
    given_ = reference_energies({"H": -13.6}, tmp_path, energy_key="energy", in_ev=units.Hartree)
    assert given_ == {1: -13.6}
    assert reference_energies(None, tmp_path, energy_key="energy", in_ev=1.0) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2\nenergy=1\nH 0 0 0\nH 0 0 1\n", "has 2 atoms"),
        (ISOLATED.replace("energy=-37", ""), "structure 1 has no 'energy'"),
        (ISOLATED + ISOLATED.replace("-0.5", "-0.6"), "structure 2: a second energy of H"),
        ("no atoms", "is not extended XYZ"),
    ],
)
def test_a_file_that_tells_no_energies_of_atoms_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        references(tmp_path, text)


# What rows hold


def test_digests_are_of_numbers_positions_and_the_cells_of_what_repeats() -> None:
    water, moved, other = molecule("H2O"), molecule("H2O"), molecule("H2O")
    moved.positions[0, 0] += 1e-13
    other.numbers[0] = 16
    boxed = molecule("H2O", vacuum=3.0, pbc=True)
    wider = boxed.copy()
    wider.cell[0, 0] += 0.1
    signed = molecule("H2O")
    signed.positions[np.abs(signed.positions) == 0] = -0.0
    table = structures(water, moved, other, boxed, wider, signed, molecule("H2O"))
    digests = row_digests(table, "structures").to_pylist()
    assert len(set(digests)) == 5
    assert digests[0] == digests[5] == digests[6]
    # As rows of a dataset where nothing repeats, and with other labels, they are the same structures.
    assert row_digests(structures(water, energy=1.0), "structures").to_pylist() == digests[:1]


def test_digests_of_pictures_are_of_their_pixels() -> None:
    pixels = np.zeros((3, 1, 2, 2), dtype=np.uint8)
    pixels[2, 0, 1, 1] = 1
    table = pa.table({"id": ["a", "b", "c"], "pixels": tensor_array(pixels)})
    first, second, third = row_digests(table, "images").to_pylist()
    assert first == second != third
    assert row_digests(table, "table") is None


def test_formulas_count_the_atoms_of_each_row() -> None:
    table = structures(molecule("CH3CH2OH"), molecule("H2O"), bulk("NaCl", "rocksalt", 5.6))
    assert formulas(table).cast(pa.string()).to_pylist() == ["C2H6O", "H2O", "ClNa"]


def test_the_bytes_of_rows_add_up_to_what_shards_are_cut_by() -> None:
    table = pa.concat_tables([SILICON, SILICON]).append_column("deep", pa.array([[[1, 2], []], [[3]]]))
    table = table.append_column("words", pa.array([["a", "bcd"], []])).append_column("flag", pa.array([[True], []]))
    table = table.append_column("pair", pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32(), 2)))
    assert int(row_bytes(table).sum()) == content_bytes(table)
    assert row_bytes(table)[0] != row_bytes(table)[1]
    assert [int(n) for n in row_bytes(table)] == [content_bytes(table.slice(i, 1)) for i in range(2)]
