"""Rows that were read but can be no rows of a dataset are taken out one by one and told by their place."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ase.build import bulk, molecule

from cluster.dataset.conform import conform_piece
from cluster.dataset.tensors import tensor_array
from jobs.ingest.checking import sound
from jobs.ingest.columns import lists, table_of
from jobs.ingest.source import Part, Unread
from jobs.ingest.sources.npz_rmd17 import NPZ_RMD17
from jobs.ingest.structures import Structure, structure_columns


def part(columns: dict[str, Any], rows: int = 3) -> Part:
    table = table_of(pa.array([f"r{i}" for i in range(rows)]), columns)
    return Part(table, lambda row: f"file:{row + 1}", [Unread("file:10", "earlier")])


def told(found: Part) -> list[tuple[str, str]]:
    return [(each.where, each.reason) for each in found.unread]


def structures(change: Any) -> Part:
    water, crystal = molecule("H2O"), bulk("Si")
    made = [Structure(a.numbers, a.positions, a.cell.array, a.pbc, {"energy": -1.0}) for a in (water, crystal, water)]
    return part(structure_columns(change(made)))


def with_second(**changes: Any) -> Any:
    def change(made: list[Structure]) -> list[Structure]:
        fields = {"numbers": made[1].numbers, "positions": made[1].positions, "cell": made[1].cell, "pbc": made[1].pbc}
        return [made[0], Structure(**{**fields, "labels": {"energy": -1.0}, **changes}), made[2]]

    return change


def test_sound_rows_are_left_as_they_are() -> None:
    before = structures(lambda made: made)
    assert sound(before, "structures") is before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"positions": np.full((2, 3), np.nan)}, "positions has a value that is not a number"),
        ({"labels": {"energy": np.inf}}, "energy has a value that is not a number, or infinite"),
        ({"numbers": np.array([0, 1])}, "atomic numbers are not all from 1 to 118"),
        ({"numbers": np.array([119, 1])}, "atomic numbers are not all from 1 to 118"),
        ({"numbers": np.array([300, 1])}, "atomic numbers are not all from 1 to 118"),
        ({"numbers": np.array([-1, 1])}, "atomic numbers are not all from 1 to 118"),
        ({"numbers": np.array([], int), "positions": np.empty((0, 3))}, "it has no atom"),
        ({"numbers": np.array([14])}, "positions are not three for each atom"),
        ({"cell": np.zeros((3, 3))}, "lattice vectors that are missing or span no volume"),
        ({"cell": np.ones((3, 3))}, "lattice vectors that are missing or span no volume"),
        ({"cell": np.full((3, 3), np.nan)}, "cell has a value that is not a number"),
    ],
)
def test_a_structure_that_no_dataset_may_hold_is_taken_out(changes: dict[str, Any], reason: str) -> None:
    found = sound(structures(with_second(**changes)), "structures")
    assert found.table["id"].to_pylist() == ["r0", "r2"]
    assert [found.where(row) for row in range(2)] == ["file:1", "file:3"]
    (where, why), earlier = told(found)
    assert (where, earlier) == ("file:2", ("file:10", "earlier"))
    assert reason in why
    # The dataset's own check has nothing left to say.
    split = found.table.schema.get_field_index("split")
    conform_piece(found.table.set_column(split, "split", pa.array(["train"] * 2)), "structures")


def test_signals_and_points_are_looked_at_too() -> None:
    values = np.zeros((3, 1, 4))
    values[1, 0, 2] = np.nan
    assert told(sound(part({"values": tensor_array(values)}), "signals"))[0][0] == "file:2"
    clouds = lists(np.zeros(9), [3, 0, 6])
    assert told(sound(part({"positions": clouds}), "points"))[0] == ("file:2", "it has no point")
    bytes_ = tensor_array(np.zeros((3, 1, 2, 2), dtype=np.uint8))
    assert len(sound(part({"pixels": bytes_}), "images").table) == 3


def test_a_frame_of_an_archive_is_told_by_its_row(tmp_path: Path) -> None:
    energies = np.array([1.0, np.nan, 3.0])
    zeros = np.zeros((3, 2, 3))
    np.savez(tmp_path / "a.npz", nuclear_charges=[1, 8], coords=zeros, forces=zeros, energies=energies)
    settings = NPZ_RMD17.settings(file="a.npz")
    (piece,) = NPZ_RMD17.plan(settings, tmp_path)
    found = sound(NPZ_RMD17.read(settings, piece), "structures")
    assert told(found) == [("a.npz, row 1", "energy has a value that is not a number, or infinite")]
