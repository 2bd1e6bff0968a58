"""Writing one shard: its key is its content, so writing it again changes nothing.

A task that is killed or repeated, two ingests of the same rows, two versions that share rows: all find the same file.
"""

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cluster.dataset.digest import content_digest
from cluster.dataset.layout import content_bytes, group_ranges, group_rows
from cluster.dataset.manifest import Group, Shard, pool
from cluster.dataset.schema import SCHEMA_VERSION, Kind
from cluster.dataset.sizes import sizes_of
from cluster.dataset.statistics import measure
from cluster.dataset.tensors import to_physical
from cluster.errors import UserError
from cluster.store import Store


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is on the store, and what a commit must know of its rows. Small; pickles."""

    shard: Shard
    schema: pa.Schema
    statistics: dict[str, Any]  # of `cluster.dataset.statistics.measure`
    sizes: NDArray[np.uint32] | None  # (rows,) atoms of each structure, points of each cloud


def write_shard(store: Store, name: str, table: pa.Table, kind: Kind, *, split: str) -> WrittenShard:
    """Write rows of one split of dataset `name`, all in memory; nothing is written where the same are there.

    table: conformed (`cluster.dataset.conform`), at least one row. Raises `UserError` for rows of another split.
    """
    if table["split"].unique().to_pylist() != [split]:
        raise UserError(f"a shard of the {split} split was given other rows, or none")
    data = _parquet(table)
    sha256 = hashlib.sha256(data).hexdigest()
    path = shard_path(sha256)
    key = f"{pool(name)}/{path}"
    if not store.exists(key):
        store.write(key, data)
    groups, footer = _layout(data)
    shard = Shard(
        path=path,
        rows=table.num_rows,
        bytes=len(data),
        sha256=sha256,
        split=split,
        content=content_digest(table, kind, SCHEMA_VERSION),
        footer=footer,
        groups=groups,
    )
    return WrittenShard(shard, table.schema, measure(table, kind), sizes_of(table, kind))


def shard_path(sha256: str, suffix: str = "parquet") -> str:
    """Where a file is in the pool: 160 bits of its digest name it."""
    return f"shards/{sha256[:40]}.{suffix}"


def _parquet(table: pa.Table) -> bytes:
    """The file. Chunks would show in its pages, so there are none; what Parquet guesses from names is switched off."""
    table = to_physical(table).combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="lz4",
        use_dictionary=["group", "split"],  # numbers hardly repeat as whole lists, and plain pages decode faster
        write_statistics=False,  # nobody prunes by value here, and footers are fetched
        row_group_size=group_rows(table.num_rows, content_bytes(table)),
    )
    return bytes(sink.getvalue().to_pybytes())


def _layout(data: bytes) -> tuple[tuple[Group, ...], Group]:
    view = memoryview(data)
    ranges = group_ranges(pq.read_metadata(pa.BufferReader(data)))
    groups = tuple(Group(rows, offset, size, zlib.crc32(view[offset : offset + size])) for rows, offset, size in ranges)
    end = groups[-1].offset + groups[-1].bytes
    return groups, Group(0, end, len(data) - end, zlib.crc32(view[end:]))
