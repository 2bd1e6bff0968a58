"""From a table to the rows of a dataset: types and order made the same for equal content, mistakes refused."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.dataset.columns import plain_type
from cluster.dataset.fitting import refuse_misfits
from cluster.dataset.schema import SPLITS, Kind, known_columns, required_columns
from cluster.dataset.tensors import is_tensor
from cluster.errors import UserError


def conform(table: pa.Table, kind: Kind) -> pa.Table:
    """The table in the types of its kind, ordered by split (train, valid, test), else in its own order.

    Columns beyond those of the kind stay, after them, ordered by name. Raises `UserError` where `conform_piece`
    does, for an id that occurs twice, and for a group that is in more than one split.
    """
    table = conform_piece(table, kind)
    if not table.num_rows:
        raise UserError("the dataset has no rows")
    refuse_torn(table.select(["id", "group", "split"]))
    place = pc.index_in(table["split"], pa.array(SPLITS)).to_numpy()
    if (np.diff(place) < 0).any():  # an order that is right already costs no copy
        table = table.take(pa.array(np.argsort(place, kind="stable")))
    return table


def conform_piece(table: pa.Table, kind: Kind) -> pa.Table:
    """The checks and types of `conform` that need no other rows of the dataset; the order stays. May have no rows.

    Raises `UserError` for a missing column, a type that does not fit, a missing or infinite value, lists whose
    lengths do not fit each other, and an unknown split.
    """
    lacking = [name for name in required_columns(kind) if name not in table.column_names]
    if lacking:
        raise UserError(
            f"the table is no dataset of {kind}; missing columns: {', '.join(lacking)}",
            hint=f"its columns: {', '.join(table.column_names)}",
        )
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise UserError(f"columns occur more than once: {_some(twice)}", allowed="one column a name")
    table = _typed(table, kind)
    for name in table.column_names:
        _refuse_holes(table, name)
    refuse_misfits(table, kind)
    strange = sorted(set(pc.unique(table["split"]).to_pylist()) - set(SPLITS))
    if strange:
        raise UserError(f"unknown splits: {_some(strange)}", allowed=", ".join(SPLITS))
    return table


def refuse_torn(names: pa.Table) -> None:
    """Raise `UserError` for an id that occurs twice or a group in several splits. names: columns id, group, split."""
    counts = pc.value_counts(names["id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise UserError(f"{len(twice)} ids occur more than once: {_some(twice)}", allowed="one row an id")
    pairs = names.select(["group", "split"]).group_by(["group", "split"]).aggregate([])
    counts = pc.value_counts(pairs["group"])
    torn = sorted(counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist())
    if torn:
        raise UserError(
            f"{len(torn)} groups are in more than one split: {_some(torn)}",
            allowed="a group (a trajectory) in one split only, or the score on unseen data means nothing",
            hint="split by group, or give rows that have nothing to do with each other groups of their own",
        )


def _typed(table: pa.Table, kind: Kind) -> pa.Table:
    known = known_columns(kind)
    names = [name for name in known if name in table.column_names]
    names += sorted(set(table.column_names) - set(known))
    columns, fields = [], []
    for name in names:
        found = table.schema.field(name)
        field = known[name].field(found.type) if name in known else _carried(found)
        try:
            columns.append(_cast(table[name], field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            wanted = known[name].wanted() if name in known else str(field.type)
            message = f"column {name!r} of the {kind} cannot be read as it should: {error}"
            raise UserError(message, allowed=f"{name}: {wanted}") from error
        fields.append(field)
    return pa.table(columns, schema=pa.schema(fields))


def _carried(field: pa.Field) -> pa.Field:
    return pa.field(field.name, plain_type(field.type), nullable=False, metadata=field.metadata)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if not is_tensor(kind) or not is_tensor(column.type):
        return column.cast(kind)
    if list(column.type.permutation or ()) not in ([], list(range(len(kind.shape)))):
        raise ValueError("its axes are permuted; make it by tensor_array of cluster.dataset.tensors")
    chunks = [pa.ExtensionArray.from_storage(kind, chunk.storage.cast(kind.storage_type)) for chunk in column.chunks]
    return pa.chunked_array(chunks, kind)


def _refuse_holes(table: pa.Table, name: str) -> None:
    column = table[name]
    holes = column.null_count
    if is_tensor(column.type):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        column = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        holes += column.null_count
    if pa.types.is_floating(column.type):
        holes += len(column) - (pc.sum(pc.is_finite(column)).as_py() or 0)
    if holes:
        raise UserError(f"column {name!r} has {holes} missing, NaN or infinite values", allowed="none")


def _some(words: list[str]) -> str:
    return ", ".join(words[:3]) + (" ..." if len(words) > 3 else "")
