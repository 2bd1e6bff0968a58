"""The runner of kind `label`: trajectories side by side as chains of Ray tasks, then one published dataset.

Each trajectory is a chain of blocks, every block one task that takes the state its predecessor returned.
Finished blocks are chunks on the store; a run that starts again begins each trajectory after its last chunk.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from cluster.context import RunContext
from cluster.errors import ConflictError, UserError
from cluster.stopping import Stop
from cluster.store import Store
from jobs.label.chunks import Chunk, Plan, chunk_key, decode
from jobs.label.geometries import first_geometries
from jobs.label.publish import publish_chunks
from jobs.label.schedule import run_chains
from jobs.label.tasks import Trajectory, done
from jobs.spec.label import LabelSpec

CHUNK_FRAMES = 25  # about one second of GFN2-xTB for ethanol: the most that a crash loses of each trajectory


def run(spec: LabelSpec, context: RunContext) -> dict[str, Any]:
    """Label, publish, and return `dataset` (name@version), `rows`, `splits`, `failed_frames`, `digest`.

    Raises UserError where the method fails on the first geometry or on every frame of a split.
    """
    plan = Plan(spec.sampling.params.frames, CHUNK_FRAMES)
    trajectories = plan_trajectories(spec, context)
    finished = {t.number: read_chunks(context.store, t, plan) for t in trajectories}
    reused = sum(len(chunks) for chunks in finished.values())
    if reused:
        context.progress.say(f"{reused} finished chunks found on the store; going on after them")
    pending = {t.number: plan.chunks()[len(finished[t.number]) :] for t in trajectories}
    last = {number: done(chunks[-1]) if chunks else None for number, chunks in finished.items()}
    with context.progress.task("label", total=len(trajectories) * plan.frames, unit="frames") as task:
        already = [done(chunk) for chunks in finished.values() for chunk in chunks]
        failed = sum(report.failed for report in already)
        task.advance(sum(report.kept + report.failed for report in already), failed=failed)
        for report in run_chains(trajectories, pending, last, context.stop_requested):
            failed += report.failed
            task.advance(report.kept + report.failed, failed=failed)
    if context.stop_requested():
        context.progress.say("the finished chunks stay on the store; `equi resume` goes on after them")
        raise Stop("a stop was requested")
    chunks = [chunk for t in trajectories for chunk in read_chunks(context.store, t, plan)]
    manifest = publish_chunks(spec, trajectories, chunks, context)
    return {
        "dataset": manifest.ref,
        "rows": manifest.rows,
        "splits": dict(manifest.splits),
        "failed_frames": failed,
        "digest": manifest.digest,
    }


def plan_trajectories(spec: LabelSpec, context: RunContext) -> list[Trajectory]:
    """One description a trajectory; number i starts from geometry i modulo the number of geometries."""
    geometries = first_geometries(spec.structures, Path.cwd())
    if not geometries:
        raise UserError(f"{spec.structures.file} holds no structure")
    starts = [geometries[i % len(geometries)] for i in range(spec.sampling.params.trajectories)]
    # What decides the frames, nothing else: renaming or splitting otherwise keeps the chunks that are there.
    work = spec.model_dump_json(include={"seed", "structures", "method", "sampling"})
    geometry = b"".join(atoms.numbers.tobytes() + atoms.positions.tobytes() for atoms in starts)
    digest = hashlib.sha256(work.encode() + geometry + str(CHUNK_FRAMES).encode()).hexdigest()
    return [
        Trajectory(
            store=context.store.uri,
            run=context.run_id,
            digest=digest,
            number=number,
            seed=spec.seed,
            atoms=np.asarray(atoms.numbers, dtype=np.int64),
            positions=np.asarray(atoms.positions, dtype=np.float64),
            method=spec.method,
            settings=spec.sampling.params,
        )
        for number, atoms in enumerate(starts)
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
