"""Making shards a version: the manifest is written last, and only where there is none of that number.

A publication that is killed before leaves shards that no manifest names. Nobody sees them, the next try finds them,
and `cluster.dataset.sweep` removes them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.catalog import read_manifest
from cluster.dataset.columns import metadata_of, type_name
from cluster.dataset.digest import dataset_digest
from cluster.dataset.manifest import LISTED, Column, DatasetManifest, Sidecar, Skipped, pool
from cluster.dataset.schema import SCHEMA_VERSION, SPLITS, Kind
from cluster.dataset.shards import WrittenShard, shard_path
from cluster.dataset.sizes import encode_sizes
from cluster.dataset.statistics import describe, merge
from cluster.errors import PreconditionFailedError, StoreError, UserError
from cluster.names import checked_name, manifest_key, versions
from cluster.store import Store

_ATTEMPTS = 32  # versions lost to others before giving up


@dataclass(frozen=True)
class Published:
    """A version that is there. outran: versions that others published while this one was; existed: it was there."""

    manifest: DatasetManifest
    outran: tuple[str, ...] = ()
    existed: bool = False

    @property
    def notice(self) -> str | None:
        """What the user should know beside the reference; None where all went as expected."""
        if self.existed:
            return f"{self.manifest.ref} holds the same rows already; nothing new was published"
        if self.outran:
            return f"{', '.join(self.outran)} was published by others meanwhile; this is {self.manifest.ref}"
        return None


def commit_dataset(
    store: Store,
    name: str,
    *,
    kind: Kind,
    schema: pa.Schema,
    written: Sequence[WrittenShard],
    statistics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any],
    skipped: Skipped | None = None,
) -> Published:
    """Publish the shards as the next version of `name`, or return the version that has the same content already.

    schema: logical, that of every shard. written: in the order of the rows within each split; splits come as train,
    valid, test. statistics: figures beside those of `cluster.dataset.statistics`. Raises `UserError` for shards of
    another schema or none at all, `StoreError` where a shard is not on the store.
    """
    checked_name("dataset", name)
    written = sorted(written, key=lambda piece: SPLITS.index(piece.shard.split or ""))
    _check(store, name, schema, written)
    shards = tuple(piece.shard for piece in written)
    digest = dataset_digest(kind, SCHEMA_VERSION, schema, [shard.content or "" for shard in shards])
    if (there := _same(store, name, digest)) is not None:
        return Published(there, existed=True)
    first = max(versions(store, "dataset", name), default=0) + 1
    sizes = [piece.sizes for piece in written if piece.sizes is not None]
    draft = DatasetManifest(
        name=name,
        version=first,
        kind=kind,
        schema_version=SCHEMA_VERSION,
        columns=columns_of(schema),
        rows=sum(shard.rows for shard in shards),
        splits={name: count for name in SPLITS if (count := sum(s.rows for s in shards if s.split == name))},
        shards=shards,
        digest=digest,
        statistics={
            **describe(merge([(p.shard.split or "", p.statistics) for p in written]), kind),
            **(statistics or {}),
        },
        provenance=dict(provenance),
        created=datetime.now(UTC),
        skipped=_bounded(skipped or Skipped()),
        sizes=_write_sizes(store, name, np.concatenate(sizes)) if sizes else None,
    )
    for version in range(first, first + _ATTEMPTS):
        manifest = draft.model_copy(update={"version": version})
        try:
            store.write(manifest_key("dataset", name, version), manifest.encode(), if_absent=True)
        except PreconditionFailedError:
            if (there := _same(store, name, digest)) is not None:
                return Published(there, existed=True)
            continue
        return Published(manifest, tuple(f"{name}@{number}" for number in range(first, version)))
    raise StoreError(f"{_ATTEMPTS} other publications of dataset {name!r} were faster; try again")


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """The columns of a logical schema as a manifest describes them. Raises `UserError` for a type it cannot hold."""
    columns = []
    for field in schema:
        metadata = metadata_of(field)
        unit = metadata.pop("unit", None)
        columns.append(Column(name=field.name, type=type_name(field.type), unit=unit, metadata=metadata))
    return tuple(columns)


def _check(store: Store, name: str, schema: pa.Schema, written: Sequence[WrittenShard]) -> None:
    if not written:
        raise UserError("the dataset has no rows")
    for piece in written:
        if not piece.schema.equals(schema, check_metadata=True):
            raise UserError(f"{piece.shard.path} has other columns than the dataset", hint="conform all pieces alike")
    keys = set(store.list(f"{pool(name)}/shards"))
    lost = sorted({piece.shard.path for piece in written if f"{pool(name)}/{piece.shard.path}" not in keys})
    if lost:
        raise StoreError(
            f"{len(lost)} shards of dataset {name!r} are gone again, for example {lost[0]}",
            hint="was the dataset swept meanwhile? Write them again",
        )


def _same(store: Store, name: str, digest: str) -> DatasetManifest | None:
    manifests = (read_manifest(store, name, version) for version in versions(store, "dataset", name))
    return next((manifest for manifest in manifests if manifest.digest == digest), None)


def _write_sizes(store: Store, name: str, sizes: NDArray[np.uint32]) -> Sidecar:
    data = encode_sizes(sizes)
    sha256 = hashlib.sha256(data).hexdigest()
    path = shard_path(sha256, "arrow")
    if not store.exists(f"{pool(name)}/{path}"):
        store.write(f"{pool(name)}/{path}", data)
    return Sidecar(path=path, sha256=sha256, bytes=len(data))


def _bounded(skipped: Skipped) -> Skipped:
    return Skipped(count=skipped.count, listed=skipped.listed[:LISTED])
