"""Extended XYZ in pieces is what ASE reads frame by frame; what is malformed is told by its line."""

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dataset.tensors import tensor_numpy
from cluster.errors import NotFoundError, UserError
from jobs.ingest import stretches
from jobs.ingest.source import Part, Unread
from jobs.ingest.sources import xyz_frames
from jobs.ingest.sources.extxyz import EXTXYZ, ExtxyzSettings
from jobs.ingest.sources.xyz_comment import parse_comment
from jobs.ingest.sources.xyz_frames import frames

FRAME = """2
Properties=species:S:1:pos:R:3:forces:R:3 energy={energy} run={run}
H 0.0 0.0 0.0 0.1 0.2 0.3
H 0.0 0.0 0.7 -0.1 -0.2 -0.3
"""
ATOM = "1\nProperties=species:S:1:pos:R:3 energy=-13.6\nH 0.0 0.0 0.0\n"
CRYSTAL = """2
Lattice="3.5 0.1 0 0 3.5 0 0.2 0 3.5" Properties=species:S:1:pos:R:3:forces:R:3 energy=-7.5 stress="1 2 3 2 5 6 3 6 9"
Si 0.0 0.0 0.0 0 0 0
Si 1.2 1.2 1.2 0 0 0
"""


def frame(energy: float = -31.5, run: str = "a") -> str:
    return FRAME.format(energy=energy, run=run)


def read(folder: Path, text: str | None = None, **params: Any) -> list[Part]:
    if text is not None:
        (folder / "a.xyz").write_text(text)
    chosen = ExtxyzSettings(**{"file": "a.xyz", **params})
    return [EXTXYZ.read(chosen, piece) for piece in EXTXYZ.plan(chosen, folder)]


def whole(parts: list[Part]) -> pa.Table:
    return pa.concat_tables([part.table for part in parts])


def unread(parts: list[Part]) -> list[Unread]:
    return [each for part in parts for each in part.unread]


def test_energies_forces_and_trajectories_are_read(tmp_path: Path) -> None:
    table = whole(read(tmp_path, ATOM + frame(-31.5, "a") + frame(-31.4, "b"), group_key="run"))
    assert table["energy"].to_pylist() == [-31.5, -31.4]
    assert table["group"].to_pylist() == ["a", "b"]
    assert table["numbers"].to_pylist() == [[1, 1], [1, 1]]
    np.testing.assert_allclose(table["forces"].to_pylist()[0], [0.1, 0.2, 0.3, -0.1, -0.2, -0.3])
    assert "cell" not in table.column_names


def test_single_atoms_are_read_where_they_are_wanted_and_then_decide_the_labels(tmp_path: Path) -> None:
    table = whole(read(tmp_path, ATOM, skip_single_atoms=False))
    assert table["energy"].to_pylist() == [-13.6]
    assert "forces" not in table.column_names


def test_identifiers_are_numbers_of_frames_in_their_file(tmp_path: Path) -> None:
    assert whole(read(tmp_path, ATOM + frame() + frame()))["id"].to_pylist() == ["a-000001", "a-000002"]


def test_a_periodic_structure_has_cell_pbc_and_stress(tmp_path: Path) -> None:
    table = whole(read(tmp_path, CRYSTAL + frame().replace("energy", 'stress="0 0 0 0 0 0 0 0 0" energy')))
    cells, pbc = tensor_numpy(table["cell"]), tensor_numpy(table["pbc"])
    np.testing.assert_array_equal(cells[0], [[3.5, 0.1, 0], [0, 3.5, 0], [0.2, 0, 3.5]])
    np.testing.assert_array_equal(pbc, [[1, 1, 1], [0, 0, 0]])
    assert not cells[1].any()
    np.testing.assert_array_equal(tensor_numpy(table["stress"])[0], [[1, 2, 3], [2, 5, 6], [3, 6, 9]])


def test_a_box_that_does_not_repeat_is_no_cell(tmp_path: Path) -> None:
    table = whole(read(tmp_path, CRYSTAL.replace("energy", 'pbc="F F F" energy')))
    assert {"cell", "pbc"} & set(table.column_names) == set()


def test_labels_may_be_energies_alone_or_none(tmp_path: Path) -> None:
    geometry = "Properties=species:S:1:pos:R:3"
    bare = f"2\n{geometry}\nH 0 0 0\nH 0 0 1\n"
    assert set(whole(read(tmp_path, bare)).column_names) == {"id", "numbers", "positions", "group", "split"}
    energies = whole(read(tmp_path, bare.replace(geometry, f"{geometry} energy=-1")))
    assert energies["energy"].to_pylist() == [-1.0]
    assert "forces" not in energies.column_names
    assert "energy" not in whole(read(tmp_path, frame(), labels=[])).column_names


def test_charge_and_spin_of_a_structure_are_read(tmp_path: Path) -> None:
    table = whole(read(tmp_path, frame().replace("energy", "charge=-1 spin=2 energy")))
    assert (table["charge"].to_pylist(), table["spin"].to_pylist()) == ([-1.0], [2])


def test_a_plain_xyz_file_is_read(tmp_path: Path) -> None:
    table = whole(read(tmp_path, "2\na comment of words\nO 0 0 0\nC 0 0 1.1\n"))
    assert table["numbers"].to_pylist() == [[8, 6]]


def test_a_test_file_goes_to_the_test_split_and_a_file_is_never_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "b.xyz").write_text(frame())
    table = whole(read(tmp_path, frame() + frame(), test_file="b.xyz"))
    assert table["split"].to_pylist() == ["", "", "test"]
    assert table["id"].to_pylist() == ["a-000000", "a-000001", "b-000000"]
    with pytest.raises(UserError, match="both read and held out"):
        read(tmp_path, test_file="a.xyz")


def test_files_of_a_pattern_can_be_groups(tmp_path: Path) -> None:
    for name in ("run2", "run1"):
        (tmp_path / f"{name}.xyz").write_text(frame() + frame())
    table = whole(read(tmp_path, file="run*.xyz", group_by_file=True))
    assert table["group"].to_pylist() == ["run1.xyz"] * 2 + ["run2.xyz"] * 2
    with pytest.raises(NotFoundError, match="no file fits the pattern"):
        read(tmp_path, file="walk*.xyz")


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "somewhere.xyz").write_text(frame())
    with pytest.raises(NotFoundError, match=r"no file .*nowhere\.xyz; did you mean somewhere\.xyz\?"):
        read(tmp_path, file="nowhere.xyz")


MALFORMED = {
    "an atom too few": (frame().rsplit("H", 1)[0], "says 2 atoms, but 1 follow"),
    "an atom too many": (frame() + "H 0 0 1 0 0 0\n", "says 2 atoms, but 3 or more follow"),
    "no number of atoms": (frame().replace("2\n", "two\n", 1), "expected a number of atoms, found 'two'"),
    "a column too few": (frame().replace(" 0.7", "", 1), "atom 2 has 6 columns, Properties says 7"),
    "a column too many": (frame().replace(" 0.7", " 0.7 0.7", 1), "atom 2 has 8 columns, Properties says 7"),
    "two lines that make up for each other": (
        frame().replace("0.3\n", "\n").replace("-0.3\n", "-0.3 0.3\n"),
        "atom 1 has 6 columns",
    ),
    "no number": (frame().replace("0.7", "O.7"), "atom 2: 'O.7' is no number"),
    "no element": (frame().replace("H 0.0 0.0 0.7", "Hx 0.0 0.0 0.7"), "no element 'Hx'"),
    "no energy": (frame().replace("energy=", "energi="), "no energy ('energy'); it has energi, forces, run"),
    "an energy of words": (frame().replace("energy=-31.5", "energy=low"), "energy ('energy') is low, not a number"),
    "no forces": (
        "2\nProperties=species:S:1:pos:R:3 energy=-1\nH 0 0 0\nH 0 0 1\n",
        "no forces ('forces'); it has energy",
    ),
    "a cell of eight numbers": (frame().replace("energy", 'Lattice="1 2 3 4 5 6 7 8" energy'), "Lattice has 8"),
    "periodic without a cell": (frame().replace("energy", 'pbc="T T T" energy'), "no Lattice"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_frame_is_told_by_its_line_and_costs_itself_alone(tmp_path: Path, case: str) -> None:
    text, reason = MALFORMED[case]
    parts = read(tmp_path, frame(-1) + frame(-2) + text + frame(-3))
    (problem,) = unread(parts)
    assert problem.where == "a.xyz:9"
    assert reason in problem.reason
    assert whole(parts)["energy"].to_pylist() == [-1, -2, -3]
    assert whole(parts)["id"].to_pylist() == ["a-000000", "a-000001", "a-000003"]


def test_a_file_cut_off_within_a_frame_loses_that_frame_alone(tmp_path: Path) -> None:
    parts = read(tmp_path, frame(-1) + frame(-2)[:-40])
    assert [each.where for each in unread(parts)] == ["a.xyz:5"]
    assert whole(parts)["energy"].to_pylist() == [-1]


def test_a_file_that_is_no_xyz_at_all_gives_its_first_line(tmp_path: Path) -> None:
    (problem,) = unread(read(tmp_path, "id,energy\na,1.0\n"))
    assert problem == Unread("a.xyz:1", "expected a number of atoms, found 'id,energy'")


def test_a_frame_without_the_group_is_malformed(tmp_path: Path) -> None:
    (problem,) = unread(read(tmp_path, frame() + frame().replace("run=", "walk="), group_key="run"))
    assert problem == Unread("a.xyz:5", "no 'run', which names its group")


# The slow, obvious twin: ASE, frame by frame.


def molecule(rng: np.random.Generator) -> str:
    """A frame as ASE, people and programs write it: with and without a lattice, quotes, spaces, brackets, JSON."""
    atoms = int(rng.integers(2, 12))
    numbers = rng.choice(["H", "C", "N", "O", "Si", "cl"], atoms)
    values = rng.normal(size=(atoms, 6))
    style = rng.choice(["%.8f", "%.3e", "% .17g"])
    lattice = rng.choice(["", 'Lattice="5 0 0 0 6 0 1 0 7" ', 'Lattice="5.0 0 0 0 6 0 1 0 7" pbc="T F T" '])
    extra = rng.choice(["", 'dihedrals="_JSON [209.44, 80.54]" ', "flag note='two words' ", "set={1 2 3} ", "a.b=c,d "])
    comment = f"{lattice}Properties=species:S:1:pos:R:3:forces:R:3 {extra}energy={rng.normal():.12f}"
    rows = [f"{z}  " + "\t".join(style % x for x in row) for z, row in zip(numbers, values, strict=True)]
    ending = str(rng.choice(["\n", "\r\n"]))
    return ending.join([f" {atoms}", comment, *rows, ""])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), frames_=st.integers(1, 12), size=st.integers(1, 4000), window=st.integers(1, 900)
)
def test_pieces_of_any_size_together_are_what_ase_reads(
    tmp_path_factory: pytest.TempPathFactory, seed: int, frames_: int, size: int, window: int
) -> None:
    folder = tmp_path_factory.mktemp("twin")
    rng = np.random.default_rng(seed)
    (folder / "a.xyz").write_text("".join(molecule(rng) for _ in range(frames_)), newline="")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stretches, "BYTES_A_PIECE", size)
        patched.setattr(xyz_frames, "_WINDOW", window)
        parts = read(folder)
    expected = ase.io.read(folder / "a.xyz", index=":", format="extxyz")
    assert not unread(parts)
    rows = [row for part in parts for row in part.table.to_pylist()]
    assert [row["id"] for row in rows] == [f"a-{i:06d}" for i in range(frames_)]
    for row, atoms in zip(rows, expected, strict=True):
        assert row["numbers"] == atoms.numbers.tolist()
        assert row["positions"] == atoms.positions.ravel().tolist()
        assert row["forces"] == atoms.calc.results["forces"].ravel().tolist()
        assert row["energy"] == atoms.calc.results["energy"]
        box = atoms.cell.array.ravel().tolist() if atoms.pbc.any() else [0.0] * 9
        assert row.get("cell", [0.0] * 9) == box
        assert row.get("pbc", [0, 0, 0]) == atoms.pbc.astype(int).tolist()


def test_the_twin_notices_a_last_digit(tmp_path: Path) -> None:
    text = molecule(np.random.default_rng(3))
    row = whole(read(tmp_path, text)).to_pylist()[0]
    energy = text.split("energy=")[1].split()[0]
    other = ase.io.read(read_again(tmp_path, text.replace(energy, energy[:-1] + str((int(energy[-1]) + 1) % 10))))
    assert row["energy"] != other.calc.results["energy"]


def read_again(folder: Path, text: str) -> Path:
    (folder / "b.xyz").write_text(text, newline="")
    return folder / "b.xyz"


@settings(max_examples=50, deadline=None)
@given(broken=st.sets(st.integers(0, 14)), window=st.integers(1, 700), kind=st.sampled_from(["short", "long", "head"]))
def test_frames_are_found_alike_whatever_the_window(broken: set[int], window: int, kind: str) -> None:
    good, lines = frame(), frame().splitlines(keepends=True)
    bad = {"short": "".join(lines[:3]), "long": good + lines[3], "head": "?" + good[1:]}[kind]
    text = "".join(bad if i in broken else good for i in range(15))
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    found = list(frames(data, window))
    assert found == list(frames(data))
    # Where no number of atoms is, no frame is told from the next.
    lost = {i for i in broken if kind != "head" or i - 1 not in broken}
    assert sum(each.problem is not None for each in found) == len(lost)
    assert sum(each.problem is None for each in found) == 15 - len(broken)
    assert "".join(text[each.begin : each.end] for each in found) == text


def test_a_comment_written_plainly_means_what_ase_says_it_means() -> None:
    line = 'Properties=species:S:1:pos:R:3 a=1 b=-2.5e3 c="1 2 3" d=T e="T F" f=word g="two words" h=1,2 flag'
    line += ' i="_JSON [1]"'
    expected: Any = ase.io.extxyz.key_val_str_to_dict(line)
    wanted = frozenset("abcdefghi") | {"flag"}
    values = parse_comment(line, wanted).values
    assert set(values) == wanted
    for key in wanted:
        np.testing.assert_array_equal(values[key], expected[key])
