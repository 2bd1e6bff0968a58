"""Publishing a dataset: shards first, the manifest last and only where there is none.

A version whose manifest is missing does not exist, so a publication that is killed leaves nothing visible. Shards carry
a nonce in their names: two publications that try for the same number never write the same key.
"""

import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.dataset.conform import conform
from cluster.dataset.digest import content_digest, type_name
from cluster.dataset.manifest import Column, DatasetManifest, Shard
from cluster.dataset.read import read_manifest
from cluster.dataset.schema import SCHEMA_VERSION, SPLITS, Kind
from cluster.dataset.statistics import describe
from cluster.errors import PreconditionFailedError, StoreError
from cluster.names import checked_name, manifest_key, versions
from cluster.store import Store, encode_json

ROWS_PER_GROUP = 512  # what a reader of some rows must read at least
_ATTEMPTS = 32  # versions lost to others before giving up


def publish_dataset(
    store: Store,
    name: str,
    table: pa.Table,
    *,
    kind: Kind,
    statistics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any],
    rows_per_shard: int = 4096,
) -> DatasetManifest:
    """Publish the table as the next version of `name`, or return the version that has the same content already.

    statistics: figures beside those of `cluster.dataset.statistics`, which are always there. provenance: how the rows
    were made. Raises `UserError` where the table is no dataset of this kind (`cluster.dataset.conform`).
    """
    checked_name("dataset", name)
    table = conform(table, kind)
    digest = content_digest(table, kind, SCHEMA_VERSION)
    figures = {**describe(table, kind), **(statistics or {})}
    for _ in range(_ATTEMPTS):
        there = versions(store, "dataset", name)
        for version in there:
            manifest = read_manifest(store, name, version)
            if manifest.digest == digest:
                return manifest
        version = max(there, default=0) + 1
        written: list[Shard] = []
        folder = f"datasets/{name}/{version}"
        try:
            _write_shards(store, folder, table, rows_per_shard, written)
            manifest = DatasetManifest(
                name=name,
                version=version,
                kind=kind,
                schema_version=SCHEMA_VERSION,
                columns=_columns(table.schema),
                rows=table.num_rows,
                splits=_counts(table),
                shards=tuple(written),
                digest=digest,
                statistics=figures,
                provenance=dict(provenance),
                created=datetime.now(UTC),
            )
            data = encode_json(manifest.model_dump(mode="json"))
            store.write(manifest_key("dataset", name, version), data, if_absent=True)
        except PreconditionFailedError:
            _remove(store, folder, written)
            continue
        except BaseException:
            _remove(store, folder, written)
            raise
        _sweep(store, manifest)
        return manifest
    raise StoreError(f"{_ATTEMPTS} other publications of dataset {name!r} were faster; try again")


def _write_shards(store: Store, folder: str, table: pa.Table, rows: int, written: list[Shard]) -> None:
    """Write the shards, adding each to `written` before it is there: what fails halfway can be removed."""
    nonce = uuid.uuid4().hex[:8]
    for number, start in enumerate(range(0, table.num_rows, rows)):
        piece = table.slice(start, rows)
        sink = pa.BufferOutputStream()
        pq.write_table(piece, sink, compression="zstd", row_group_size=ROWS_PER_GROUP)
        data = sink.getvalue().to_pybytes()
        path = f"shard-{number:05d}-{nonce}.parquet"
        sha256 = hashlib.sha256(data).hexdigest()
        written.append(Shard(path=path, rows=piece.num_rows, bytes=len(data), sha256=sha256))
        store.write(f"{folder}/{path}", data)


def _remove(store: Store, folder: str, written: list[Shard]) -> None:
    for shard in written:
        store.delete(f"{folder}/{shard.path}")


def _sweep(store: Store, manifest: DatasetManifest) -> None:
    """Remove what publications that were killed, or have just lost this version, left in its folder."""
    ours = {shard.path for shard in manifest.shards} | {"manifest.json"}
    for key in store.list(manifest.folder):
        if key.removeprefix(f"{manifest.folder}/") not in ours:
            store.delete(key)


def _columns(schema: pa.Schema) -> tuple[Column, ...]:
    columns = []
    for field in schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        unit = metadata.pop("unit", None)
        columns.append(Column(name=field.name, type=type_name(field.type), unit=unit, metadata=metadata))
    return tuple(columns)


def _counts(table: pa.Table) -> dict[str, int]:
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(table["split"]).to_pylist()}
    return {split: counts[split] for split in SPLITS if split in counts}
