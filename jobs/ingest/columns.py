"""Arrow columns from numpy arrays, without a Python object for each number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from cluster.dataset.columns import list_type
from cluster.dataset.tensors import tensor_array
from jobs.ingest.source import UNASSIGNED


def lists(values: NDArray[Any], lengths: ArrayLike) -> pa.ListArray:
    """One list a row: `values` one after another, `lengths` of them in each row."""
    offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int32)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, type=list_type(flat.type))


def tensors(values: NDArray[Any]) -> pa.ExtensionArray:
    """One tensor a row; values (rows, *shape)."""
    return tensor_array(np.ascontiguousarray(values))


def numbered(prefix: str, numbers: ArrayLike) -> pa.Array:
    """Identifiers such as 'train-000012'."""
    digits = pc.utf8_lpad(pc.cast(pa.array(np.asarray(numbers, dtype=np.int64)), pa.string()), 6, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix), digits, "-")


def table_of(
    ids: pa.Array, columns: dict[str, Any], split: str = UNASSIGNED, groups: Sequence[str] | pa.Array | None = None
) -> pa.Table:
    """The rows with their identifiers, groups (without: each row a group of its own) and the split they are given."""
    if groups is None:
        groups = ids
    own = groups if isinstance(groups, pa.Array) else pa.array(groups, pa.string())
    there = {name: values for name, values in columns.items() if values is not None}
    return pa.table({"id": ids, **there, "group": own, "split": pa.repeat(pa.scalar(split), len(ids))})


def list_lengths(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """How many values each row of a column of lists has."""
    lengths: NDArray[np.int64] = pc.list_value_length(column).to_numpy().astype(np.int64)
    return lengths


def flat_values(column: pa.ChunkedArray) -> NDArray[Any]:
    """All values of a column of lists, one after another."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    if not chunks:
        return np.empty(0, dtype=column.type.value_type.to_pandas_dtype())
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
