"""Given structures, labelled as they are: chunks of them as Ray tasks, then one published dataset.

A chunk on the store is finished work; a run that starts again computes only the chunks that are missing.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from cluster.context import RunContext
from cluster.dataset.commit import Published
from cluster.dataset.schema import SPLITS
from cluster.errors import UserError
from cluster.stopping import Stop
from jobs.ingest.assembly import publish_staged
from jobs.ingest.schedule import Execute, on_ray
from jobs.ingest.staging import Index, staged
from jobs.label.given import Work
from jobs.label.publish import provenance
from jobs.label.schedule import run_chunks
from jobs.label.sources import Given, Source, open_source
from jobs.label.splitting import Splits, draw_splits
from jobs.spec.dataset import Shares
from jobs.spec.label import GivenStructures, LabelSpec

HOPELESS = 100  # structures that may fail before one succeeds

Chunks = Iterable[tuple[int, Sequence[Given]]]
RunChunks = Callable[[Work, Chunks, Callable[[], bool]], Iterator[tuple[int, Index]]]


def run_given(
    spec: LabelSpec,
    settings: GivenStructures,
    context: RunContext,
    run_chunks: RunChunks = run_chunks,
    execute: Execute = on_ray,
) -> Published:
    """Label and publish. Raises UserError where the method fails on every structure, or splits cannot be drawn."""
    source = open_source(spec.structures, Path.cwd(), context.store)
    splits = splits_of(spec, source)
    work = plan_work(spec, source, context)
    chunks = -(-splits.kept // settings.chunk)
    found = staged(context.store, work.run, [work.digest_of(number) for number in range(chunks)])
    if found:
        context.progress.say(f"{len(found)} of {chunks} chunks were finished before; they are not computed again")
    pending = pending_chunks(splits.assigned(source), settings.chunk, frozenset(found))
    with context.progress.task("label", total=splits.kept, unit="structures", rated=True) as task:
        kept = sum(len(index.rows) for index in found.values())
        failed = sum(index.unread_count for index in found.values())
        # Not advanced: what is there says nothing about how fast this attempt is.
        task.update(completed=kept + failed, failed=failed)
        for number, index in run_chunks(work, pending, context.stop_requested):
            found[number] = index
            kept, failed = kept + len(index.rows), failed + index.unread_count
            task.advance(len(index.rows) + index.unread_count, failed=failed)
            if not kept and (failed >= HOPELESS or len(found) == chunks):
                raise hopeless(spec, failed, index)
    if context.stop_requested():
        context.progress.say("the finished chunks stay on the store; `equi resume` goes on after them")
        raise Stop("a stop was requested")
    told = provenance(spec, context)
    told["split"] |= splits.about
    indexes = [found[number] for number in range(chunks)]
    return publish_staged(context, spec.dataset_name, "structures", indexes, provenance=told, execute=execute)


def splits_of(spec: LabelSpec, source: Source) -> Splits:
    """The split of every structure: drawn, or as the dataset has it."""
    if isinstance(spec.split, Shares):
        return draw_splits(source, spec.split, spec.seed)
    return Splits(np.array([SPLITS.index(given.split) for given in source.structures()], dtype=np.int8), {})


def plan_work(spec: LabelSpec, source: Source, context: RunContext) -> Work:
    """What all chunks share."""
    decides = spec.model_dump_json(include={"structures", "method", "sampling", "split", "seed"})
    return Work(
        store=context.store.uri,
        run=context.run_id,
        digest=hashlib.sha256(f"{decides} {source.identity}".encode()).hexdigest(),
        method=spec.method,
        stress=source.has_stress,
    )


def pending_chunks(
    structures: Iterator[Given], size: int, finished: frozenset[int]
) -> Iterator[tuple[int, list[Given]]]:
    """Number and structures of each chunk that is not finished; read as they are asked for."""
    number = 0
    while chunk := list(islice(structures, size)):
        if number not in finished:
            yield number, chunk
        number += 1


def hopeless(spec: LabelSpec, failed: int, index: Index) -> UserError:
    """The error for a method that computes nothing."""
    why = index.unread[0].reason
    return UserError(
        f"method {spec.method.name!r} failed on every one of {failed} structures; the last chunk says: {why}",
        hint="its settings, the elements of the structures and the lengths in the file are what to look at",
    )
