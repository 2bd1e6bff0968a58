"""Staged chunks of given structures become a dataset: splits, and what could not be computed."""

import pyarrow as pa

from cluster.context import RunContext
from cluster.dataset.commit import Published
from cluster.dataset.manifest import Skipped
from cluster.dataset.publish import publish_table
from cluster.errors import UserError
from jobs.label.given import Work
from jobs.label.publish import provenance
from jobs.label.staged import Unlabelled, decode, staged_key
from jobs.spec.label import LabelSpec


def publish_staged(spec: LabelSpec, work: Work, chunks: int, context: RunContext) -> Published:
    """Publish what the chunks hold, in the order of the source. Raises UserError where that is nothing."""
    tables: list[pa.Table] = []
    failures: list[Unlabelled] = []
    for number in range(chunks):
        staged = decode(context.store.read(staged_key(work.run, number)))
        failures += staged.failures
        tables += [] if staged.table is None else [staged.table]
    if not tables:
        raise UserError(
            f"method {spec.method.name!r} failed on every structure; the first reason: {failures[0].reason}",
        )
    return publish_table(
        context.store,
        spec.dataset_name,
        pa.concat_tables(tables),
        kind="structures",
        provenance=provenance(spec, context),
        skipped=Skipped(count=len(failures), listed=tuple({"where": f.id, "reason": f.reason} for f in failures)),
    )
