"""Whether a dataset on the store is still the one that was published. One shard is in memory at a time."""

import hashlib
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cluster.dataset.catalog import load_manifest
from cluster.dataset.conform import conform_piece, refuse_torn
from cluster.dataset.dataset import Dataset
from cluster.dataset.digest import content_digest, dataset_digest
from cluster.dataset.manifest import DatasetManifest, Shard
from cluster.dataset.schema import SPLITS
from cluster.dataset.sizes import sizes_of
from cluster.dataset.tensors import to_logical
from cluster.errors import NotFoundError, StoreError, UserError
from cluster.store import Store

_NARROW = ["id", "group", "split"]


def verify_dataset(store: Store, ref: str) -> list[str]:
    """Read everything and compare it with the manifest: files, row groups, rows, splits, digests.

    Returns what is wrong, in the order of the shards; a changed byte is named with its shard, its row group, and the
    crc32 that was expected and found.
    """
    manifest = load_manifest(store, ref)
    return _verify_v1(store, manifest) if manifest.schema_version == 1 else _verify(store, manifest)


def _verify(store: Store, manifest: DatasetManifest) -> list[str]:
    dataset = Dataset(store, manifest)
    problems: list[str] = []
    names: list[pa.Table] = []
    sizes: list[NDArray[np.uint32]] = []
    for shard, table in _shards(store, manifest, problems):
        table = to_logical(table)
        if not table.schema.equals(dataset.schema):
            problems.append(f"{shard.path} has other columns than its manifest says")
            continue
        problems += _compare_shard(manifest, shard, table)
        names.append(table.select(_NARROW))
        counted = sizes_of(table, manifest.kind)
        if counted is not None:
            sizes.append(counted)
    digest = dataset_digest(
        manifest.kind, manifest.schema_version, dataset.schema, (shard.content or "" for shard in manifest.shards)
    )
    if digest != manifest.digest:
        problems.append("the shards of the manifest are not the ones its digest was made of")
    if problems or not names:
        return problems or ["the manifest names no shard"]
    return _compare_whole(manifest, pa.concat_tables(names)) + _compare_sizes(dataset, sizes)


def _shards(store: Store, manifest: DatasetManifest, problems: list[str]) -> Iterator[tuple[Shard, pa.Table]]:
    """The shards that are what was published, as Parquet holds them; of the others, the problems."""
    for shard in manifest.shards:
        try:
            data = store.read(manifest.key_of(shard))
        except NotFoundError:
            problems.append(f"{shard.path} is missing")
            continue
        found = hashlib.sha256(data).hexdigest()
        if found != shard.sha256:
            problems += _damage(shard, data, found)
            continue
        table = pq.read_table(pa.BufferReader(data))
        if table.num_rows == shard.rows:
            yield shard, table
        else:
            problems.append(f"{shard.path} has {table.num_rows} rows, its manifest says {shard.rows}")


def _damage(shard: Shard, data: bytes, found: str) -> list[str]:
    """Where a file differs from the one that was published, as closely as its manifest can tell."""
    whole = f"{shard.path} is not the file that was published"
    if len(data) != shard.bytes:
        return [f"{whole}: {len(data)} bytes instead of {shard.bytes}"]
    view = memoryview(data)
    parts = [(f"row group {place}", group) for place, group in enumerate(shard.groups)]
    parts += [("footer", shard.footer)] if shard.footer is not None else []
    sums = [(what, group.crc32, zlib.crc32(view[group.offset : group.offset + group.bytes])) for what, group in parts]
    wrong = [
        f"{whole}: {what}, crc32 expected {expected:08x}, found {there:08x}"
        for what, expected, there in sums
        if expected != there
    ]
    return wrong or [f"{whole}: sha256 expected {shard.sha256}, found {found}"]


def _compare_shard(manifest: DatasetManifest, shard: Shard, table: pa.Table) -> list[str]:
    problems = []
    found = content_digest(table, manifest.kind, manifest.schema_version)
    if found != shard.content:
        problems.append(f"{shard.path}: digest of the rows expected {shard.content}, found {found}")
    if table["split"].unique().to_pylist() != [shard.split]:
        problems.append(f"{shard.path} has rows of other splits than {shard.split}")
    try:
        conform_piece(table, manifest.kind)
    except UserError as error:
        problems.append(f"{shard.path}: {error.message}")
    return problems


def _compare_whole(manifest: DatasetManifest, names: pa.Table) -> list[str]:
    problems = []
    try:
        refuse_torn(names)
    except UserError as error:
        problems.append(error.message)
    found = {entry["values"]: entry["counts"] for entry in pc.value_counts(names["split"]).to_pylist()}
    counts = {split: found[split] for split in SPLITS if split in found}
    if names.num_rows != manifest.rows or counts != manifest.splits:
        problems.append(f"the manifest counts {manifest.rows} rows {manifest.splits}, there are {counts}")
    return problems


def _compare_sizes(dataset: Dataset, counted: list[NDArray[np.uint32]]) -> list[str]:
    if not counted:
        return []
    try:
        there = dataset.sizes()
    except (StoreError, NotFoundError) as error:
        return [error.message]
    same = there is not None and np.array_equal(there, np.concatenate(counted))
    return [] if same else ["the sizes beside the shards are not those of the rows"]


def _verify_v1(store: Store, manifest: DatasetManifest) -> list[str]:
    """By the rules of version 1: one digest of all rows, in the types that they had then."""
    problems: list[str] = []
    tables = [table for _, table in _shards(store, manifest, problems)]
    if problems or not tables:
        return problems or ["the manifest names no shard"]
    table = pa.concat_tables(tables)
    if content_digest(table, manifest.kind, 1) != manifest.digest:
        problems.append("the rows are not the ones the digest was made of")
    return problems + _compare_whole(manifest, table.select(_NARROW))
