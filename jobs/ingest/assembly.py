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
from jobs.ingest.tasks import write_rows


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
    return publish_plans(context, name, kind, indexes, plans, filled, provenance=provenance, execute=execute)


def publish_plans(
    context: RunContext,
    name: str,
    kind: Kind,
    indexes: Sequence[Index],
    plans: Sequence[ShardPlan],
    filled: Sequence[str],
    *,
    provenance: Mapping[str, Any],
    execute: Execute = on_ray,
) -> Published:
    """Write the planned shards of staged rows and make them a version; then the pieces are removed.

    filled: columns that some pieces lack. Raises Stop where that was asked for; the pieces stay then.
    """
    written: dict[int, WrittenShard] = {}
    with context.progress.task("write", total=sum(p.rows for p in plans), unit="rows", rated=True) as task:
        calls = [(context.store, context.run_id, kind, name, plan.split, plan.picked, filled) for plan in plans]
        for number, shard in execute(write_rows, calls, context.stop_requested):
            written[number] = shard
            task.advance(plans[number].rows, shards=len(written))
    stop_if_asked(context)
    unread = [each for index in indexes for each in index.unread][:LISTED]
    published = commit_dataset(
        context.store,
        name,
        kind=kind,
        schema=written[0].schema,
        written=[written[number] for number in range(len(plans))],
        provenance=provenance,
        skipped=Skipped(
            count=sum(index.unread_count for index in indexes),
            listed=tuple({"where": each.where, "reason": each.reason} for each in unread),
        ),
    )
    # Only now: until the manifest is there, the pieces are what a run that starts again goes on from.
    context.store.delete_folder(parts_prefix(context.run_id))
    return published


def stop_if_asked(context: RunContext) -> None:
    """Raise Stop, and say what stays, where a stop was asked for."""
    if context.stop_requested():
        context.progress.say("what was read stays on the store; `equi resume` goes on after it")
        raise Stop("a stop was requested")
