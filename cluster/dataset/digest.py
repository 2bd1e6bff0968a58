"""The digest of what a dataset says, whatever the files it is written in look like."""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.dataset.columns import metadata_of, type_name
from cluster.dataset.tensors import is_tensor


def content_digest(table: pa.Table, kind: str, schema_version: int) -> str:
    """sha256 of kind, schema and values of a logical table, in the order of the rows.

    Equal values give equal digests whatever their chunks, compression, row groups or shards; so Arrow's
    and Parquet's own bytes, which may change with a release, do not enter. Each column counts as: name,
    type, metadata; then the lengths of its lists or texts; then its values, little-endian.
    """
    total = hashlib.sha256(f"equimodels dataset {kind} {schema_version} {table.num_rows}\n".encode())
    for field, column in zip(table.schema, table.columns, strict=True):
        total.update(_heading(field))
        _add(total, column.combine_chunks())
    return total.hexdigest()


def dataset_digest(kind: str, schema_version: int, schema: pa.Schema, contents: Iterable[str]) -> str:
    """The digest of a whole dataset, from the content digests of its shards in their order.

    So that shards can be digested where they are written. How rows are cut into shards follows from the rows
    (`cluster.dataset.layout`); version 1 had the content digest of the whole table instead.
    """
    total = hashlib.sha256(f"equimodels dataset {kind} {schema_version}\n".encode())
    for field in schema:
        total.update(_heading(field))
    for content in contents:
        total.update(f"{content}\n".encode())
    return total.hexdigest()


def _heading(field: pa.Field) -> bytes:
    heading: Sequence[object] = [field.name, type_name(field.type), metadata_of(field)]
    return json.dumps(heading, sort_keys=True).encode() + b"\n"


def _add(total: "hashlib._Hash", array: pa.Array) -> None:
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks leaves of a column without rows
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    kind = array.type
    if is_tensor(kind):
        _add(total, array.storage)
    elif pa.types.is_string(kind):
        _add(total, pc.cast(pc.binary_length(array), pa.int64()))
        total.update(_text(array))
    elif pa.types.is_list(kind):
        _add(total, pc.cast(pc.list_value_length(array), pa.int64()))
        _add(total, array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        _add(total, array.flatten())
    else:
        values = array.to_numpy(zero_copy_only=False)
        total.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)).data)


def _text(array: pa.Array) -> pa.Buffer:
    """All characters of a column of texts, one text after another, as UTF-8."""
    if not len(array):
        return pa.py_buffer(b"")
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    return data.slice(int(ends[0]), int(ends[-1] - ends[0])) if data is not None else pa.py_buffer(b"")
