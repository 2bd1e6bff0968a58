"""Parquet files of other origins, as tables and as other kinds."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from cluster.dataset.conform import conform_piece
from cluster.dataset.tensors import tensor_array, tensor_numpy
from cluster.errors import UserError
from jobs.ingest import source as pieces_of
from jobs.ingest.source import Part, Unread
from jobs.ingest.sources import parquet
from jobs.ingest.sources.parquet import PARQUET

CLOUD = [[[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]], [[0.0, 0.0, 0.0]], [[1.0, 2.0, 3.0]]]


def read(below: Path, /, **params: Any) -> list[Part]:
    settings = PARQUET.settings(**params)
    return [PARQUET.read(settings, piece) for piece in PARQUET.plan(settings, below)]


def whole(parts: list[Part]) -> pa.Table:
    return pa.concat_tables([part.table for part in parts])


def write(path: Path, columns: dict[str, Any], rows: int = 1 << 20) -> None:
    pq.write_table(pa.table(columns), path, row_group_size=rows)


def test_a_plain_table_is_carried_as_it_is(tmp_path: Path) -> None:
    columns = {"name": ["a", "b"], "x": [1.5, 2.5], "n": pa.array([1, 2], pa.int32()), "many": [[1, 2], []]}
    write(tmp_path / "a.parquet", columns)
    table = whole(read(tmp_path, file="a.parquet"))
    assert table["id"].to_pylist() == ["a-000000", "a-000001"]
    for name, values in columns.items():
        assert table[name].to_pylist() == (values if isinstance(values, list) else values.to_pylist())
    conform_piece(table.set_column(table.schema.get_field_index("split"), "split", pa.array(["train"] * 2)), "table")


def test_columns_of_a_table_can_be_named_identifier_group_and_split(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"key": [7, 8], "run": ["x", "y"], "split": ["train", "test"], "v": [1, 2]})
    table = whole(read(tmp_path, file="a.parquet", columns={"id": "key", "group": "run"}))
    assert set(table.column_names) == {"id", "group", "split", "v"}
    assert table.select(["id", "group", "split"]).to_pylist() == [
        {"id": "7", "group": "x", "split": "train"},
        {"id": "8", "group": "y", "split": "test"},
    ]
    chosen = whole(read(tmp_path, file="a.parquet", columns={"value": "v"}))
    assert set(chosen.column_names) == {"id", "value", "group", "split"}
    write(tmp_path / "b.parquet", {"split": ["train", "training"]})
    with pytest.raises(UserError, match="splits training"):
        read(tmp_path, file="b.parquet")


@pytest.mark.parametrize("nested", [True, False])
def test_structures_are_found_by_a_mapping_of_columns(tmp_path: Path, nested: bool) -> None:
    positions = CLOUD if nested else [np.ravel(each).tolist() for each in CLOUD]
    if nested:
        positions = pa.array(positions, pa.list_(pa.list_(pa.float64(), 3)))
    columns = {"z": [[6, 8], [1], [2]], "coords": positions, "e": pa.array([-1, -2, -3], pa.int64())}
    cells = pa.array([np.eye(3).ravel().tolist()] * 3)
    write(tmp_path / "a.parquet", {**columns, "cell": cells, "pbc": [[True, True, True]] * 3}, rows=2)
    mapping = {"numbers": "z", "positions": "coords", "energy": "e"}
    table = whole(read(tmp_path, file="a.parquet", kind="structures", columns=mapping))
    assert table["numbers"].to_pylist() == [[6, 8], [1], [2]]
    assert table["positions"].to_pylist() == [np.ravel(each).tolist() for each in CLOUD]
    assert table["energy"].to_pylist() == [-1.0, -2.0, -3.0]
    np.testing.assert_array_equal(tensor_numpy(table["cell"])[1], np.eye(3))
    assert tensor_numpy(table["pbc"]).tolist() == [[1, 1, 1]] * 3


@pytest.mark.parametrize("form", ["tensor", "fixed", "lists"])
def test_pictures_are_tensors_fixed_lists_or_lists_of_a_shape(tmp_path: Path, form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 2, 3), dtype=np.uint8)
    flat = pa.array(pixels.ravel())
    columns = {
        "tensor": tensor_array(pixels),
        "fixed": pa.FixedSizeListArray.from_arrays(flat, 6),
        "lists": pa.array(pixels.reshape(4, 6).tolist(), pa.list_(pa.uint8())),
    }
    write(tmp_path / "a.parquet", {"pixels": columns[form], "label": [0, 1, 0, 1]})
    shape = None if form == "tensor" else (1, 2, 3)
    table = whole(read(tmp_path, file="a.parquet", kind="images", shape=shape))
    np.testing.assert_array_equal(tensor_numpy(table["pixels"]), pixels)
    assert tensor_numpy(table["pixels"]).dtype == np.uint8
    if shape is not None:
        with pytest.raises(UserError, match="has plain lists"):
            read(tmp_path, file="a.parquet", kind="images")


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_row_groups_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(parquet, "ROWS_A_PIECE", most)
    monkeypatch.setattr(pieces_of, "ROWS_A_PIECE", most)
    for name, start in (("a", 0), ("b", 10)):
        write(tmp_path / f"{name}.parquet", {"x": list(range(start, start + 10))}, rows=2)
    parts = read(tmp_path, file="*.parquet")
    assert whole(parts)["x"].to_pylist() == list(range(20))
    assert whole(parts)["id"].to_pylist()[9:11] == ["a-000009", "b-000000"]
    assert len(parts) == {1: 10, 3: 10, 1000: 2}[most]


def test_rows_with_missing_values_are_told_by_their_number(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"x": [1, None, 3], "y": [None, None, "c"]})
    (part,) = read(tmp_path, file="a.parquet")
    assert part.table["x"].to_pylist() == [3]
    told = sorted((each.where, each.reason) for each in part.unread)
    assert told == [("a.parquet, row 0", "'y' is missing"), ("a.parquet, row 1", "'x' is missing")]
    assert isinstance(part.unread[0], Unread)


@pytest.mark.parametrize(
    ("columns", "params", "message"),
    [
        ({"z": [[1]]}, {"kind": "structures"}, "has no column for numbers, positions"),
        ({"x": [1]}, {"columns": {"y": "w"}}, r"has no column for y \('w'\)"),
        ({"numbers": [[300]], "positions": [[0.0] * 3]}, {"kind": "structures"}, "values that are no uint8"),
        ({"numbers": [["H"]], "positions": [[0.0] * 3]}, {"kind": "structures"}, "holds string"),
        ({"numbers": [[1]], "positions": [[0.0] * 3], "energy": ["low"]}, {"kind": "structures"}, "'energy'"),
        ({"numbers": [[1, None]], "positions": [[0.0] * 6]}, {"kind": "structures"}, "missing values within"),
        ({"pixels": [[1, 2], [1]]}, {"kind": "images", "shape": (1, 1, 2)}, "rows of 1 to 2 values"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, Any], params: dict[str, Any], message: str
) -> None:
    write(tmp_path / "a.parquet", columns)
    with pytest.raises(UserError, match=message):
        read(tmp_path, file="a.parquet", **params)


def test_files_of_other_columns_or_formats_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"x": [1]})
    write(tmp_path / "b.parquet", {"y": [1]})
    with pytest.raises(UserError, match="other columns than the file before"):
        read(tmp_path, file="*.parquet")
    (tmp_path / "c").write_text("x,y")
    with pytest.raises(UserError, match="is not a Parquet file"):
        read(tmp_path, file="c")
    with pytest.raises(ValidationError):
        PARQUET.settings(file="a", kind="structure")
