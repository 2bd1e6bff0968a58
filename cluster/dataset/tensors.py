"""Columns of tensors of one shape: what programs see, and what Parquet holds.

Logical: `pa.fixed_shape_tensor(value_type, shape)`. Physical: `pa.binary(nbytes)`, whose field says {"tensor": "uint8",
"shape": "[1, 28, 28]"}: Parquet reads 1.5 M images of MNIST a second from it, and 0.12 to 0.19 M from its lists.
Every conversion here shares the memory of what it is given. Values are little-endian, as Arrow's are.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.errors import StoreError, UserError

_MARKS = (b"tensor", b"shape")


def tensor_type(value: pa.DataType, shape: Sequence[int]) -> pa.FixedShapeTensorType:
    """The logical type of tensors of this shape."""
    return pa.fixed_shape_tensor(value, list(shape))


def is_tensor(kind: pa.DataType) -> bool:
    """Whether the type is a logical tensor."""
    return isinstance(kind, pa.FixedShapeTensorType)


def tensor_array(values: NDArray[Any]) -> pa.FixedShapeTensorArray:
    """A column of values (rows, *shape), any dtype of whole numbers or floats; shares the memory of a C-ordered array.

    Raises `UserError` for an array that has no shape beside its rows, or nothing in it.
    """
    size = int(np.prod(values.shape[1:]))
    if values.ndim < 2 or not size:
        raise UserError(
            f"an array of shape {values.shape} is no column of tensors", allowed="(rows, ...), no axis empty"
        )
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    kind = tensor_type(flat.type, values.shape[1:])
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, type=kind.storage_type))


def tensor_numpy(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """The values (rows, *shape) of a logical column, read-only; of one chunk, they share its memory."""
    shape = tuple(column.type.shape)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts: list[NDArray[Any]] = [chunk.storage.flatten().to_numpy().reshape(-1, *shape) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty((0, *shape), column.type.value_type.to_pandas_dtype())


def to_physical(table: pa.Table) -> pa.Table:
    """The table with bytes in place of tensors."""
    return _replaced(table, lambda field: is_tensor(field.type), physical_field, _bytes_of)


def to_logical(table: pa.Table) -> pa.Table:
    """The inverse of `to_physical`."""
    return _replaced(table, _is_physical, logical_field, _tensors_of)


def physical_field(field: pa.Field) -> pa.Field:
    """The field of a column of tensors, as Parquet holds it."""
    kind = field.type
    marks = {b"tensor": str(kind.value_type).encode(), b"shape": json.dumps(list(kind.shape)).encode()}
    nbytes = int(np.prod(kind.shape)) * kind.value_type.bit_width // 8
    return pa.field(field.name, pa.binary(nbytes), field.nullable, {**(field.metadata or {}), **marks})


def logical_field(field: pa.Field) -> pa.Field:
    """The inverse of `physical_field`. Raises `StoreError` where the field contradicts itself."""
    metadata = dict(field.metadata)
    value, shape = (metadata.pop(mark).decode() for mark in _MARKS)
    kind = tensor_type(pa.type_for_alias(value), json.loads(shape))
    if physical_field(pa.field(field.name, kind)).type != field.type:
        raise StoreError(f"column {field.name!r} of type {field.type} cannot hold {value} of shape {shape}")
    return pa.field(field.name, kind, field.nullable, metadata or None)


def _is_physical(field: pa.Field) -> bool:
    return pa.types.is_fixed_size_binary(field.type) and all(mark in (field.metadata or {}) for mark in _MARKS)


def _replaced(
    table: pa.Table,
    concerned: Callable[[pa.Field], bool],
    new_field: Callable[[pa.Field], pa.Field],
    convert: Callable[[pa.Array, pa.DataType], pa.Array],
) -> pa.Table:
    for place, field in enumerate(table.schema):
        if concerned(field):
            new = new_field(field)
            chunks = [convert(chunk, new.type) for chunk in table.column(place).chunks]
            table = table.set_column(place, new, pa.chunked_array(chunks, new.type))
    return table


def _bytes_of(chunk: pa.Array, kind: pa.DataType) -> pa.Array:
    values = chunk.storage.flatten()
    start = values.offset * values.type.bit_width // 8
    data = values.buffers()[1].slice(start, len(chunk) * kind.byte_width) if len(values) else pa.py_buffer(b"")
    return pa.Array.from_buffers(kind, len(chunk), [None, data])


def _tensors_of(chunk: pa.Array, kind: pa.FixedShapeTensorType) -> pa.Array:
    width = chunk.type.byte_width
    data = chunk.buffers()[1].slice(chunk.offset * width, len(chunk) * width) if len(chunk) else pa.py_buffer(b"")
    size = kind.storage_type.list_size
    values = pa.Array.from_buffers(kind.value_type, len(chunk) * size, [None, data])
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(values, type=kind.storage_type))
