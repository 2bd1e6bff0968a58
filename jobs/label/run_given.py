"""Given structures, labelled as they are: chunks of them as Ray tasks, then one published dataset.

A chunk on the store is finished work; a run that starts again computes only the chunks that are missing.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from cluster.context import RunContext
from cluster.dataset.commit import Published
from cluster.errors import ConflictError, UserError
from cluster.stopping import Stop
from jobs.label.given import Report, Work
from jobs.label.publish_given import publish_staged
from jobs.label.schedule import run_chunks
from jobs.label.sources import Given, Source, open_source
from jobs.label.staged import decode, staged_folder, staged_key
from jobs.spec.label import GivenStructures, LabelSpec

HOPELESS = 100  # structures that may fail before one succeeds


def run_given(spec: LabelSpec, settings: GivenStructures, context: RunContext) -> Published:
    """Label and publish. Raises UserError where the method fails on every structure."""
    source = open_source(spec.structures, Path.cwd(), context.store)
    work = plan_work(spec, source, context)
    sizes = [min(settings.chunk, source.count - at) for at in range(0, source.count, settings.chunk)]
    finished = finished_chunks(work, context, len(sizes))
    if finished:
        context.progress.say(f"{len(finished)} finished chunks found on the store; they are not computed again")
    with context.progress.task("label", total=source.count, unit="structures", rated=True) as task:
        task.advance(sum(sizes[number] for number in finished))
        kept = failed = 0
        pending = pending_chunks(source, settings.chunk, finished)
        for report in run_chunks(work, pending, context.stop_requested):
            kept, failed = kept + report.kept, failed + report.failed
            task.advance(report.kept + report.failed, failed=failed)
            if not kept and not finished and failed >= HOPELESS:
                raise hopeless(spec, failed, report)
    if context.stop_requested():
        context.progress.say("the finished chunks stay on the store; `equi resume` goes on after them")
        raise Stop("a stop was requested")
    return publish_staged(spec, work, len(sizes), context)


def hopeless(spec: LabelSpec, failed: int, report: Report) -> UserError:
    """The error for a method that computes nothing."""
    return UserError(
        f"method {spec.method.name!r} failed on each of the first {failed} structures: {report.first_reason}",
        hint="its settings, the elements of the structures and the lengths in the file are what to look at",
    )


def plan_work(spec: LabelSpec, source: Source, context: RunContext) -> Work:
    """What all chunks share. The digest is of what decides the labels: renamed or split otherwise, chunks are kept."""
    decides = spec.model_dump_json(include={"structures", "method", "sampling"})
    periodic, stress = source.lattices()
    return Work(
        store=context.store.uri,
        run=context.run_id,
        digest=hashlib.sha256(f"{decides} {source.identity}".encode()).hexdigest(),
        method=spec.method,
        periodic=periodic,
        stress=stress,
    )


def finished_chunks(work: Work, context: RunContext, chunks: int) -> frozenset[int]:
    """Numbers of the chunks that are on the store. Raises ConflictError where another spec made them."""
    there = set(context.store.list(staged_folder(work.run)))
    finished = [number for number in range(chunks) if staged_key(work.run, number) in there]
    # One of them tells for all: whoever went on with another spec was refused here.
    for number in finished[:1]:
        key = staged_key(work.run, number)
        if decode(context.store.read(key)).digest != work.digest:
            raise ConflictError(
                f"{key} was made from other structures or by another spec than this one",
                hint="submit it as a new run; a run goes on only with what it began with",
            )
    return frozenset(finished)


def pending_chunks(source: Source, size: int, finished: frozenset[int]) -> Iterator[tuple[int, list[Given]]]:
    """Number and structures of each chunk that is not finished; read as they are asked for."""
    structures = source.structures()
    number = 0
    while chunk := list(islice(structures, size)):
        if number not in finished:
            yield number, chunk
        number += 1
