"""Publishing a table that is in memory as a dataset. Parallel ingests write shards and commit them themselves."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.dataset.commit import Published, commit_dataset
from cluster.dataset.conform import conform
from cluster.dataset.layout import content_bytes, shard_cuts
from cluster.dataset.manifest import DatasetManifest, Skipped
from cluster.dataset.schema import SPLITS, Kind
from cluster.dataset.shards import write_shard
from cluster.names import checked_name
from cluster.store import Store


def publish_dataset(
    store: Store,
    name: str,
    table: pa.Table,
    *,
    kind: Kind,
    statistics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any],
    rows_per_shard: int | None = None,
) -> DatasetManifest:
    """As `publish_table`, for those who only want the manifest."""
    return publish_table(
        store, name, table, kind=kind, statistics=statistics, provenance=provenance, rows_per_shard=rows_per_shard
    ).manifest


def publish_table(
    store: Store,
    name: str,
    table: pa.Table,
    *,
    kind: Kind,
    statistics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any],
    rows_per_shard: int | None = None,
    skipped: Skipped | None = None,
) -> Published:
    """Publish the table as the next version of `name`, or return the version that has the same content already.

    statistics: figures beside those of `cluster.dataset.statistics`, which are always there. provenance: how the rows
    were made. rows_per_shard: at most; by default what makes 64 MiB, and another cut of the same rows is another
    content. skipped: rows that were left out. Raises `UserError` where the table is no dataset of this kind
    (`cluster.dataset.conform`).
    """
    checked_name("dataset", name)
    table = conform(table, kind)
    written = []
    for split in SPLITS:
        rows = table.filter(pc.equal(table["split"], split))
        if rows.num_rows:
            cuts = shard_cuts(rows.num_rows, content_bytes(rows), rows_per_shard)
            pieces = (rows.slice(start, end - start) for start, end in pairwise(cuts))
            written += [write_shard(store, name, piece, kind, split=split) for piece in pieces]
    return commit_dataset(
        store,
        name,
        kind=kind,
        schema=table.schema,
        written=written,
        statistics=statistics,
        provenance=provenance,
        skipped=skipped,
    )
