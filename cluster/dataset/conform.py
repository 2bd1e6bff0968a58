"""From a table to the rows of a dataset: types and order made the same for equal content, mistakes refused."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.dataset.schema import COLUMNS, SPLITS, STRUCTURES, Kind, image_shape, images_schema
from cluster.errors import UserError


def conform(table: pa.Table, kind: Kind) -> pa.Table:
    """The table in the types of its kind, ordered by split (train, valid, test) and id.

    Columns beyond those of the kind stay, after them, ordered by name. Raises `UserError` for a missing
    column, a missing or infinite value, an id that occurs twice, lists whose lengths do not fit each
    other, an unknown split, or a group that is in more than one split.
    """
    lacking = [name for name in COLUMNS[kind] if name not in table.column_names]
    if lacking:
        raise UserError(
            f"the table is no dataset of {kind}; missing columns: {', '.join(lacking)}",
            hint=f"its columns: {', '.join(table.column_names)}",
        )
    if not table.num_rows:
        raise UserError("the dataset has no rows")
    table = _typed(table, kind)
    for name in table.column_names:
        _refuse_holes(table, name)
    _refuse_duplicates(table)
    if kind == "structures":
        _refuse_ragged(table)
    _refuse_splits(table)
    _refuse_leaks(table)
    place = pc.index_in(table["split"], pa.array(SPLITS))
    order = pc.sort_indices(
        pa.table({"split": place, "id": table["id"]}), [("split", "ascending"), ("id", "ascending")]
    )
    return table.take(order)


def _typed(table: pa.Table, kind: Kind) -> pa.Table:
    known = STRUCTURES if kind == "structures" else images_schema(image_shape(table.schema))
    extra = sorted(set(table.column_names) - set(known.names))
    schema = pa.schema([*known, *(table.schema.field(name) for name in extra)])
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        wanted = "; ".join(f"{field.name}: {field.type}" for field in known)
        raise UserError(f"the table is no dataset of {kind}: {error}", allowed=wanted) from error


def _refuse_holes(table: pa.Table, name: str) -> None:
    column = table[name]
    holes = column.null_count
    while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        column = pa.chunked_array([chunk.flatten() for chunk in column.chunks])
        holes += column.null_count
    if pa.types.is_floating(column.type):
        holes += len(column) - (pc.sum(pc.is_finite(column)).as_py() or 0)
    if holes:
        raise UserError(f"column {name!r} has {holes} missing, NaN or infinite values", allowed="none")


def _refuse_duplicates(table: pa.Table) -> None:
    counts = pc.value_counts(table["id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise UserError(f"{len(twice)} ids occur more than once: {_some(twice)}", allowed="one row an id")


def _refuse_ragged(table: pa.Table) -> None:
    atoms = pc.list_value_length(table["numbers"]).to_numpy()
    wrong = atoms < 1
    for name in ("positions", "forces"):
        wrong |= pc.list_value_length(table[name]).to_numpy() != 3 * atoms
    if wrong.any():
        ids = table["id"].take(pa.array(np.flatnonzero(wrong))).to_pylist()
        raise UserError(
            f"{len(ids)} structures have lists that do not fit: {_some(ids)}",
            allowed="at least one atom, and three positions and three forces for each",
        )


def _refuse_splits(table: pa.Table) -> None:
    strange = sorted(set(pc.unique(table["split"]).to_pylist()) - set(SPLITS))
    if strange:
        raise UserError(f"unknown splits: {_some(strange)}", allowed=", ".join(SPLITS))


def _refuse_leaks(table: pa.Table) -> None:
    pairs = table.select(["group", "split"]).group_by(["group", "split"]).aggregate([])
    counts = pc.value_counts(pairs["group"])
    torn = sorted(counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist())
    if torn:
        raise UserError(
            f"{len(torn)} groups are in more than one split: {_some(torn)}",
            allowed="a group (a trajectory) in one split only, or the score on unseen data means nothing",
            hint="split by group, or give rows that have nothing to do with each other groups of their own",
        )


def _some(words: list[str]) -> str:
    return ", ".join(words[:3]) + (" ..." if len(words) > 3 else "")
