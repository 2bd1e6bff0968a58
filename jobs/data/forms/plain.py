"""Any columns as tensors: signals, point clouds, plain tables."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cluster.errors import UserError
from jobs.data.forms.form import plain_column
from jobs.data.rows import Integers, Rows

_POINT = 3  # coordinates: `positions` of a point cloud are x, y, z in turn


@dataclass(frozen=True)
class PlainForm:
    """Batches are dictionaries: a column of equal rows is a tensor (n, ...), a ragged one (values (N,), lengths (n,)).

    Columns of text are left out.
    """

    def columns(self, schema: pa.Schema) -> list[str]:
        """Every column of numbers or tensors."""
        return [field.name for field in schema if not pa.types.is_string(field.type)]

    def decode(self, table: pa.Table) -> Rows:
        """The columns as they are; point clouds as (N, 3)."""
        columns = {name: plain_column(table[name]) for name in table.column_names}
        return Rows(table.num_rows, columns)

    def weights(self, rows: Rows, quantities: frozenset[str]) -> Mapping[str, Integers]:
        """`atoms` are the points of a cloud."""
        if quantities != {"atoms"} or "positions" not in rows:
            raise UserError("only point clouds can be limited, by atoms", hint="give the number of samples of a batch")
        return {"atoms": rows["positions"].lengths // _POINT}

    @property
    def at_once(self) -> int:
        """Rows are only copied."""
        return 4096

    def prepare(self, rows: Rows) -> Rows:
        """The rows as they are."""
        return rows

    def batch(self, rows: Rows) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        """Types are those of the dataset."""
        found: dict[str, Tensor | tuple[Tensor, Tensor]] = {}
        for name, column in rows.columns.items():
            values = torch.from_numpy(np.ascontiguousarray(column.values))
            if column.offsets is None:
                found[name] = values
            else:
                found[name] = (values, torch.from_numpy(column.lengths))
        return found
