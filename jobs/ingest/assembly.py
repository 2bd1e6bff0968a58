"""Staged rows whose splits are settled become a dataset: shards are written side by side, then the manifest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.context import RunContext
from cluster.dataset.commit import Published, commit_dataset
from cluster.dataset.conform import refuse_torn
from cluster.dataset.manifest import Skipped
from cluster.dataset.schema import SPLITS, Kind
from cluster.dataset.shards import WrittenShard
from cluster.errors import UserError
from cluster.stopping import Stop
from jobs.ingest.decision import ShardPlan, cut_shards, filled_columns
from jobs.ingest.schedule import Execute, on_ray
from jobs.ingest.staging import LISTED, Index, parts_prefix
from jobs.ingest.tasks import Work, write_rows
from jobs.spec.frozen import Component


def publish_staged(
    context: RunContext,
    name: str,
    kind: Kind,
    indexes: Sequence[Index],
    *,
    provenance: Mapping[str, Any],
    execute: Execute = on_ray,
) -> Published:
    """Publish the staged pieces of this run in their order; what could not be made a row is listed as skipped.

    indexes: of every piece; the split of each row is one of SPLITS. Raises UserError for no rows, and for an id that
    occurs twice or a group that is torn apart; Stop where that was asked for. The pieces are removed in the end.
    """
    there = [index for index in indexes if index.schema is not None]
    if not there:
        raise UserError("no row is left to publish")
    names = pa.concat_tables([index.rows.select(["id", "group", "split"]) for index in there])
    refuse_torn(names)
    codes = pc.index_in(names["split"], pa.array(SPLITS)).to_numpy().astype(np.int8)
    filled = filled_columns(there)
    plans = cut_shards(indexes, codes, np.arange(len(codes)), filled)
    # Of the work of an ingest, writing asks only for the run and the kind.
    work = Work(run=context.run_id, source=Component(name="staged"), kind=kind)
    written = _write(plans, [(context.store, work, name, p.split, p.picked, filled) for p in plans], context, execute)
    unread = [each for index in indexes for each in index.unread][:LISTED]
    published = commit_dataset(
        context.store,
        name,
        kind=kind,
        schema=written[0].schema,
        written=written,
        provenance=provenance,
        skipped=Skipped(
            count=sum(index.unread_count for index in indexes),
            listed=tuple({"where": each.where, "reason": each.reason} for each in unread),
        ),
    )
    # Only now: until the manifest is there, the pieces are what a run that starts again goes on from.
    context.store.delete_folder(parts_prefix(context.run_id))
    return published


def _write(
    plans: Sequence[ShardPlan], calls: Sequence[tuple[Any, ...]], context: RunContext, execute: Execute
) -> list[WrittenShard]:
    written: dict[int, WrittenShard] = {}
    with context.progress.task("write", total=sum(p.rows for p in plans), unit="rows", rated=True) as task:
        for number, shard in execute(write_rows, calls, context.stop_requested):
            written[number] = shard
            task.advance(plans[number].rows, shards=len(written))
    if context.stop_requested():
        raise Stop("a stop was requested")
    return [written[number] for number in range(len(plans))]
