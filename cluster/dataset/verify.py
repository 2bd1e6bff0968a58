"""Whether a dataset on the store is still the one that was published."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.dataset.conform import conform
from cluster.dataset.digest import content_digest
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.read import load_manifest
from cluster.errors import NotFoundError, UserError
from cluster.store import Store


def verify_dataset(store: Store, ref: str) -> list[str]:
    """Read everything and compare it with the manifest: files, rows, splits, digest. Returns what is wrong."""
    manifest = load_manifest(store, ref)
    problems: list[str] = []
    tables = []
    for shard in manifest.shards:
        try:
            data = store.read(f"{manifest.folder}/{shard.path}")
        except NotFoundError:
            problems.append(f"{shard.path} is missing")
            continue
        if hashlib.sha256(data).hexdigest() != shard.sha256:
            problems.append(f"{shard.path} is not the file that was published ({len(data)} of {shard.bytes} bytes)")
            continue
        tables.append(pq.read_table(pa.BufferReader(data)))
        if tables[-1].num_rows != shard.rows:
            problems.append(f"{shard.path} has {tables[-1].num_rows} rows, its manifest says {shard.rows}")
    return problems or _compare(manifest, pa.concat_tables(tables))


def _compare(manifest: DatasetManifest, table: pa.Table) -> list[str]:
    try:
        table = conform(table, manifest.kind)
    except UserError as error:
        return [error.message]
    problems = []
    if content_digest(table, manifest.kind, manifest.schema_version) != manifest.digest:
        problems.append("the rows are not the ones the digest was made of")
    splits = {split: table["split"].to_pylist().count(split) for split in manifest.splits}
    if table.num_rows != manifest.rows or splits != manifest.splits:
        problems.append(f"the manifest counts {manifest.rows} rows {manifest.splits}, there are {splits}")
    return problems
