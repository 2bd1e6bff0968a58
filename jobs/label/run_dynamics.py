"""Molecular dynamics: trajectories side by side as chains of Ray tasks, then one published dataset.

Each trajectory is a chain of blocks, every block one task that takes the state its predecessor returned.
Finished blocks are chunks on the store; a run that starts again begins each trajectory after its last chunk.
"""

import hashlib
from itertools import islice
from pathlib import Path

from cluster.context import RunContext
from cluster.dataset.commit import Published
from cluster.errors import ConflictError
from cluster.stopping import Stop
from cluster.store import Store
from jobs.label.chunks import Chunk, Plan, chunk_key, decode
from jobs.label.publish import publish_chunks
from jobs.label.schedule import run_chains
from jobs.label.sources import open_source
from jobs.label.tasks import Trajectory, done
from jobs.spec.label import LabelSpec, MolecularDynamics, TrajectorySplit

CHUNK_FRAMES = 25  # about one second of GFN2-xTB for ethanol: the most that a crash loses of each trajectory


def run_dynamics(
    spec: LabelSpec, settings: MolecularDynamics, split: TrajectorySplit, context: RunContext
) -> Published:
    """Sample, label and publish.

    Raises UserError where the method fails on the first geometry or on every frame of a split.
    """
    plan = Plan(settings.frames, CHUNK_FRAMES)
    trajectories = plan_trajectories(spec, settings, context)
    finished = {t.number: read_chunks(context.store, t, plan) for t in trajectories}
    reused = sum(len(chunks) for chunks in finished.values())
    if reused:
        context.progress.say(f"{reused} finished chunks found on the store; going on after them")
    pending = {t.number: plan.chunks()[len(finished[t.number]) :] for t in trajectories}
    last = {number: done(chunks[-1]) if chunks else None for number, chunks in finished.items()}
    with context.progress.task("label", total=len(trajectories) * plan.frames, unit="structures", rated=True) as task:
        already = [done(chunk) for chunks in finished.values() for chunk in chunks]
        failed = sum(report.failed for report in already)
        task.update(completed=sum(report.kept + report.failed for report in already), failed=failed)
        for report in run_chains(trajectories, pending, last, context.stop_requested):
            failed += report.failed
            task.advance(report.kept + report.failed, failed=failed)
    if context.stop_requested():
        context.progress.say("the finished chunks stay on the store; `equi resume` goes on after them")
        raise Stop("a stop was requested")
    chunks = [chunk for t in trajectories for chunk in read_chunks(context.store, t, plan)]
    return publish_chunks(spec, split, trajectories, chunks, context)


def plan_trajectories(spec: LabelSpec, settings: MolecularDynamics, context: RunContext) -> list[Trajectory]:
    """One description a trajectory; number i starts from structure i modulo the number of structures."""
    source = open_source(spec.structures, Path.cwd(), context.store)
    starts = [given.geometry for given in islice(source.structures(), settings.trajectories)]
    # What decides the frames, nothing else: renaming or splitting otherwise keeps the chunks that are there.
    work = spec.model_dump_json(include={"seed", "structures", "method", "sampling"})
    content = b"".join(start.content() for start in starts)
    digest = hashlib.sha256(work.encode() + content + str(CHUNK_FRAMES).encode()).hexdigest()
    return [
        Trajectory(
            store=context.store.uri,
            run=context.run_id,
            digest=digest,
            number=number,
            seed=spec.seed,
            start=starts[number % len(starts)],
            method=spec.method,
            settings=settings,
        )
        for number in range(settings.trajectories)
    ]


def read_chunks(store: Store, trajectory: Trajectory, plan: Plan) -> list[Chunk]:
    """The finished chunks of a trajectory from its start on, without a gap.

    Raises ConflictError for a chunk that another spec made.
    """
    chunks: list[Chunk] = []
    for frames in plan.chunks():
        key = chunk_key(trajectory.run, trajectory.number, frames)
        if not store.exists(key):
            break
        chunk = decode(store.read(key))
        if chunk.digest != trajectory.digest:
            raise ConflictError(
                f"{key} was made by another spec than this one",
                hint="submit it as a new run; a run goes on only with the spec it began with",
            )
        chunks.append(chunk)
    return chunks
