"""A dataset as programs read it: by row group, by split, or whole. Opening reads the manifest and nothing else."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.blocks import Blocks
from cluster.dataset.cache import BlockCache
from cluster.dataset.catalog import load_manifest
from cluster.dataset.groups import GroupIndex, Layout
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.schema import SPLITS
from cluster.dataset.sizes import read_sizes
from cluster.dataset.tensors import to_logical
from cluster.dataset.upgrade import logical_schema
from cluster.errors import NotFoundError, UserError
from cluster.names import missing
from cluster.store import Store, open_store

__all__ = ["Dataset", "GroupIndex", "open_dataset"]

_AT_ONCE = 4  # row groups that `table` reads at a time


def open_dataset(uri: str, *, store: Store | None = None, cache: BlockCache | None = None) -> "Dataset":
    """Open "s3://bucket/prefix/datasets/ethanol@1" or "/folder/datasets/ethanol" (the latest version).

    store: then `uri` is a reference, "datasets/ethanol@1" or "ethanol". cache: decoded row groups on a disk of this
    machine. Raises `NotFoundError` where there is no such dataset, `StoreError` where its manifest cannot be read.
    """
    if store is None:
        place, found, uri = uri.rpartition("/datasets/")
        if not found:
            raise UserError(f"{uri!r} names no dataset on a store", allowed="<store>/datasets/<name> or .../<name>@3")
        store = open_store(place or "/")
    return Dataset(store, load_manifest(store, uri), cache)


class Dataset:
    """One immutable version of a dataset; rows are numbered from 0 in its order. Safe between threads; pickles."""

    def __init__(self, store: Store, manifest: DatasetManifest, cache: BlockCache | None = None) -> None:
        self.store, self.manifest = store, manifest
        self.schema: pa.Schema = logical_schema(manifest)
        self._cache = cache
        self._layout = Layout(manifest)
        self._blocks = Blocks(store, manifest)
        self._sizes: NDArray[np.uint32] | None = None
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset, (self.store, self.manifest, self._cache)

    def __len__(self) -> int:
        return self.manifest.rows

    def __repr__(self) -> str:
        return f"<dataset {self.manifest.ref} in {self.store.uri}>"

    def rows(self, split: str | None = None) -> int:
        """How many rows the split has; all of them for None. Raises `NotFoundError` for an unknown split."""
        return len(self) if split is None else self.manifest.splits.get(_checked(split), 0)

    def groups(self, split: str | None = None) -> GroupIndex:
        """The row groups of the split, in the order of the dataset; all for None."""
        return self._layout.index(split if split is None else _checked(split))

    def read_group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of one row group; logical columns, as in `schema`, those that are named in the order named.

        The bytes are checked against the manifest, and read again before `DamagedDataError` is raised. With a cache, a
        row group comes whole from there, or goes there for whoever reads it next.
        """
        shard, place = int(self._layout.shard[number]), int(self._layout.place[number])
        if self._cache is None:
            return self._decoded(shard, place, self._named(columns))
        key = f"{self.manifest.shards[shard].sha256}-{place}"
        table = self._cache.get(key)
        if table is None:
            with self._cache.held(key):
                table = self._cache.get(key)
                if table is None:
                    table = self._decoded(shard, place, self.schema)
                    self._cache.put(key, table)
        return table.select(self._named(columns).names)

    def table(self, split: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of the split, in memory. Raises `NotFoundError` for an unknown split or column."""
        schema = self._named(columns)
        index = self.groups(split)
        slices = list(zip(index.number.tolist(), index.skip.tolist(), index.rows.tolist(), strict=True))

        def read(piece: tuple[int, int, int]) -> pa.Table:
            number, skip, rows = piece
            return self.read_group(number, schema.names).slice(skip, rows)

        if len(slices) < 2:
            tables = [read(piece) for piece in slices]
        else:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                tables = list(pool.map(read, slices))
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def sizes(self, split: str | None = None) -> NDArray[np.uint32] | None:
        """Atoms of each structure or points of each cloud of the split; None for the other kinds.

        Read once, from a file beside the shards; version 1 had none, so there they are counted.
        """
        if self.manifest.kind not in ("structures", "points"):
            return None
        with self._lock:
            if self._sizes is None:
                self._sizes = read_sizes(self.store, self.manifest, self.table)
            found = self._sizes
        start, end = (0, len(self)) if split is None else self._layout.bounds[_checked(split)]
        return found[start:end]

    def identifiers(self, rows: Sequence[int]) -> list[str]:
        """The ids of some rows, by their numbers in the dataset, in the order given. Raises `IndexError`."""
        wanted = np.asarray(rows, dtype=np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of a dataset of {len(self)}")
        number = np.searchsorted(self._layout.first, wanted, side="right") - 1
        names = np.empty(len(wanted), dtype=object)
        for group in np.unique(number):
            here = number == group
            ids = self.read_group(int(group), ["id"])["id"]
            names[here] = ids.take(pa.array(wanted[here] - self._layout.first[group])).to_pylist()
        return list(names)

    def _named(self, columns: Sequence[str] | None) -> pa.Schema:
        if columns is None:
            return self.schema
        known = self.schema.names
        strange = [name for name in columns if name not in known]
        if strange:
            raise missing(f"dataset {self.manifest.ref} has no column {strange[0]!r}", strange[0], known, "its columns")
        return pa.schema([self.schema.field(name) for name in columns])

    def _decoded(self, shard: int, place: int, schema: pa.Schema) -> pa.Table:
        """The columns of `schema`, which names them as they are now, in its types."""
        stored = {new: column.name for new, column in zip(self.schema.names, self.manifest.columns, strict=True)}
        table = to_logical(self._blocks.read(shard, place, [stored[name] for name in schema.names]))
        columns = [table[stored[field.name]] for field in schema]
        return pa.table(
            [c if c.type == field.type else c.cast(field.type) for c, field in zip(columns, schema, strict=True)],
            schema=schema,
        )


def _checked(split: str) -> str:
    if split not in SPLITS:
        error: NotFoundError = missing(f"there is no split {split!r}", split, SPLITS, "splits")
        raise error
    return split
