"""Parquet files of any origin: as a table, or as another kind whose columns are found by name or by a mapping."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from cluster.dataset.columns import plain_type
from cluster.dataset.schema import SPLITS, Kind, Known, known_columns, required_columns
from cluster.dataset.tensors import is_tensor, to_logical
from cluster.errors import UserError
from jobs.ingest.columns import lists, numbered, table_of, tensors
from jobs.ingest.finding import File, Names, given_files
from jobs.ingest.nested import unnested
from jobs.ingest.source import (
    ASE_UNITS,
    NUMBERS_A_PIECE,
    ROWS_A_PIECE,
    UNASSIGNED,
    Part,
    Piece,
    Settings,
    Source,
    Unread,
)

_OURS = ("id", "group", "split")


class ParquetSettings(Settings):
    """Which files, which kind of dataset they make, and which of their columns are what."""

    file: Names  # a file, a pattern, or a list of them
    test_file: Names | None = None  # every row of these goes to the test split
    kind: Kind = "table"
    columns: dict[str, str] = Field(
        default_factory=dict
    )  # name in the dataset: name in the file; without: the same names
    shape: tuple[int, ...] | None = None  # of the pixels or values of a row, where the file has plain lists


def plan(settings: ParquetSettings, folder: Path) -> list[Piece]:
    """Runs of row groups. Raises NotFoundError, UserError for a file of another format or without the columns."""
    pieces: list[Piece] = []
    chosen: dict[str, str] | None = None
    for file in given_files(folder, settings.file, settings.test_file):
        about, schema = _opened(file.path)
        there = choose(settings, schema, file.path)
        if chosen is not None and there != chosen:
            raise UserError(
                f"{file.path} has other columns than the file before it: {', '.join(there)}", allowed=", ".join(chosen)
            )
        chosen = there
        pieces += _pieces(file, about, there)
    return pieces


def choose(settings: ParquetSettings, schema: pa.Schema, path: Path) -> dict[str, str]:
    """Which column of the file each column of the dataset is. Raises UserError where one is missing."""
    known = known_columns(settings.kind)
    if settings.kind == "table" and not (set(settings.columns) - set(_OURS)):
        chosen = {name: name for name in schema.names} | settings.columns
        taken = set(settings.columns.values())
        chosen = {ours: theirs for ours, theirs in chosen.items() if ours in settings.columns or theirs not in taken}
    else:
        chosen = {name: name for name in known if name in schema.names} | settings.columns
    lacking = [f"{ours} ({theirs!r})" for ours, theirs in chosen.items() if theirs not in schema.names]
    lacking += [name for name in required_columns(settings.kind) if name not in chosen and name not in _OURS]
    if lacking:
        raise UserError(
            f"{path} has no column for {', '.join(lacking)}",
            allowed=f"its columns: {', '.join(schema.names)}",
            hint="say which is which: columns: {positions: coords}",
        )
    return chosen


def read(settings: ParquetSettings, piece: Piece) -> Part:
    """The rows of the piece."""
    chosen: dict[str, str] = piece.detail["columns"]
    with pq.ParquetFile(piece.file) as file:
        groups = range(*piece.detail["groups"])
        table = to_logical(file.read_row_groups(list(groups), columns=list(dict.fromkeys(chosen.values()))))
    table = pa.table({ours: table[theirs] for ours, theirs in chosen.items()})
    numbers = np.arange(len(table)) + piece.first

    def where(number: int) -> str:
        return f"{piece.shown}, row {number}"

    whole = np.ones(len(table), dtype=bool)
    unread = []
    for name in table.column_names:
        for row in np.flatnonzero(np.asarray(table[name].is_null())).tolist():
            if whole[row]:
                unread.append(Unread(where(int(numbers[row])), f"{chosen[name]!r} is missing"))
            whole[row] = False
    table, numbers = table.filter(pa.array(whole)), numbers[whole]
    known = known_columns(settings.kind)
    columns = {
        name: _column(table[name], name, known.get(name), settings.shape)
        for name in table.column_names
        if name not in _OURS
    }
    ids = _texts(table, "id") if "id" in chosen else numbered(piece.name, numbers)
    groups_there = _texts(table, "group") if "group" in chosen else None
    made = table_of(ids, columns, piece.split, groups_there)
    if "split" in chosen and piece.split == UNASSIGNED:
        splits = _texts(table, "split")
        strange = set(pc.unique(splits).to_pylist()) - {*SPLITS, UNASSIGNED}
        if strange:
            raise UserError(f"{piece.shown}: splits {', '.join(sorted(strange)[:5])}", allowed=", ".join(SPLITS))
        made = made.set_column(made.schema.get_field_index("split"), "split", splits)
    return Part(made, lambda row: where(int(numbers[row])), unread)


def _column(column: pa.ChunkedArray, name: str, known: Known | None, shape: Sequence[int] | None) -> Any:
    """The column as its kind wants it: flat lists, tensors, single values; others in plain types, as they are."""
    if known is None:
        try:
            return column if is_tensor(column.type) else column.cast(plain_type(column.type))
        except pa.ArrowInvalid as error:
            raise UserError(f"column {name!r}: {error}", allowed="no missing values within lists") from error
    if known.form == "one":
        try:
            return column.cast(known.values[0])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(f"column {name!r}: {error}", allowed=known.wanted()) from error
    values, lengths = unnested(column, name)
    if known.form == "list":
        dtype = known.values[0].to_pandas_dtype()
        # What a whole number becomes must be itself: an atomic number of 300 is not 44.
        if np.dtype(dtype).kind == "u" and len(values) and not np.array_equal(values.astype(dtype), values):
            raise UserError(f"column {name!r} has values that are no {known.values[0]}", allowed=known.wanted())
        return lists(values.astype(dtype), lengths)
    wanted = tuple(column.type.shape) if is_tensor(column.type) else _shape(known, shape, lengths)
    if (lengths != int(np.prod(wanted))).any():
        raise UserError(f"column {name!r} has rows of {lengths.min()} to {lengths.max()} values", allowed=f"{wanted}")
    if name == "pbc":
        values = values.astype(np.uint8)
    return tensors(values.reshape(-1, *wanted))


def _shape(known: Known, shape: Sequence[int] | None, lengths: Any) -> tuple[int, ...]:
    for form in known.form:
        if not isinstance(form, str) and None not in form:
            return tuple(int(axis) for axis in form if axis is not None)
    if shape is None:
        raise UserError(
            f"column {known.name!r} has plain lists", allowed="shape: [channels, rows, columns] as a setting"
        )
    return tuple(shape)


def _texts(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table[name].cast(pa.string()).combine_chunks()


def _pieces(file: File, about: pq.FileMetaData, chosen: dict[str, str]) -> list[Piece]:
    pieces, begin, first, rows, size = [], 0, 0, 0, 0
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        if rows and (size + group.total_byte_size > NUMBERS_A_PIECE or rows + group.num_rows > ROWS_A_PIECE):
            pieces.append(_piece(file, begin, number, first, rows, chosen))
            begin, first, rows, size = number, first + rows, 0, 0
        rows, size = rows + group.num_rows, size + group.total_byte_size
    return [*pieces, _piece(file, begin, about.num_row_groups, first, rows, chosen)] if rows else pieces


def _piece(file: File, begin: int, end: int, first: int, rows: int, chosen: dict[str, str]) -> Piece:
    detail = {"groups": [begin, end], "columns": chosen}
    return file.piece(begin, end, first=first, rows=rows, detail=detail)


def _opened(path: Path) -> tuple[pq.FileMetaData, pa.Schema]:
    try:
        with pq.ParquetFile(path) as file:
            return file.metadata, file.schema_arrow
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a Parquet file: {error}") from error


PARQUET = Source(
    kind=lambda settings: settings.kind,
    settings=ParquetSettings,
    plan=plan,
    read=read,
    units=ASE_UNITS,
    grouped=lambda settings: True,  # by a column called group, which only the file shows
)
