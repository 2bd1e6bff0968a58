"""What a reader has to know about a kind of sample, and how Arrow's columns become arrays without a copy."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.tensors import tensor_numpy
from jobs.data.rows import Column, Integers, Rows


class Form(Protocol):
    """One kind of sample, from a table to a batch. Shared by threads, so it holds no state.

    Threads decode and prepare many rows at a time, in a few long calls of numpy that run beside each other; batches are
    then cut from them by the one thread that consumes them, since short calls would only wait for the interpreter.
    """

    @property
    def at_once(self) -> int:
        """How many rows are prepared together."""
        ...

    def columns(self, schema: pa.Schema) -> list[str]:
        """The columns of the dataset that are read. Raises UserError where one is missing."""
        ...

    def decode(self, table: pa.Table) -> Rows:
        """The table's rows as arrays."""
        ...

    def weights(self, rows: Rows, quantities: frozenset[str]) -> Mapping[str, Integers]:
        """What each row weighs against a budget, (n,) for each quantity. Raises UserError for an unknown one."""
        ...

    def prepare(self, rows: Rows) -> Rows:
        """Everything that costs: types, neighbours. The rows of several batches, taken from their windows."""
        ...

    def batch(self, rows: Rows) -> Any:
        """The batch that objectives expect, as tensors over the memory of prepared rows."""
        ...


def fixed(column: pa.ChunkedArray) -> NDArray[Any]:
    """Numbers (n,) or tensors (n, ...) of a column, without a copy where it is one chunk."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return tensor_numpy(column)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values


def ragged(column: pa.ChunkedArray) -> tuple[NDArray[Any], Integers]:
    """All values of a column of lists, (N,), and its offsets, (n + 1,) from 0; without a copy where it is one chunk."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    offsets = array.offsets.to_numpy().astype(np.int64)
    return array.flatten().to_numpy(zero_copy_only=False), offsets - offsets[0]


def is_ragged(kind: pa.DataType) -> bool:
    """Whether rows of this type have lengths of their own."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def plain_column(column: pa.ChunkedArray) -> Column:
    """The column as it is."""
    return Column(*ragged(column)) if is_ragged(column.type) else Column(fixed(column))
