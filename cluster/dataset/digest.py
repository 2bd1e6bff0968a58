"""The digest of what a dataset says, whatever the files it is written in look like."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError


def content_digest(table: pa.Table, kind: str, schema_version: int) -> str:
    """sha256 of kind, schema and values, in the order of the rows.

    Equal values give equal digests whatever their chunks, compression, row groups or shards; so Arrow's
    and Parquet's own bytes, which may change with a release, do not enter. Each column counts as: name,
    type, metadata; then the lengths of its lists or texts; then its values, little-endian.
    """
    total = hashlib.sha256(f"equimodels dataset {kind} {schema_version} {table.num_rows}\n".encode())
    for field in table.schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        heading = [field.name, type_name(field.type), metadata]
        total.update(json.dumps(heading, sort_keys=True).encode() + b"\n")
        _add(total, table[field.name].combine_chunks())
    return total.hexdigest()


def type_name(kind: pa.DataType) -> str:
    """The type in words of our own: Arrow's include how the elements of a list are called, which Parquet changes.

    Raises `UserError` for a type that a dataset cannot hold.
    """
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"list<{type_name(kind.value_type)}, {kind.list_size}>"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return str(kind)
    raise UserError(
        f"a dataset holds no column of type {kind}", allowed="numbers, true or false, text, and lists of them"
    )


def _add(total: "hashlib._Hash", array: pa.Array) -> None:
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks leaves of a column without rows
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    kind = array.type
    if pa.types.is_string(kind):
        _add(total, pc.cast(pc.binary_length(array), pa.int64()))
        total.update("".join(array.to_pylist()).encode())
    elif pa.types.is_list(kind):
        _add(total, pc.cast(pc.list_value_length(array), pa.int64()))
        _add(total, array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        _add(total, array.flatten())
    else:
        values = array.to_numpy(zero_copy_only=False)
        total.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)).data)
