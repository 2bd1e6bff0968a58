"""Chunks of molecular dynamics become a dataset: rows, splits by trajectory, statistics, and how it was made."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cluster.context import RunContext
from cluster.dataset.commit import Published
from cluster.dataset.manifest import Skipped
from cluster.dataset.publish import publish_table
from cluster.errors import UserError
from jobs.label.calculators import find_method
from jobs.label.chunks import Chunk
from jobs.label.rows import given_table
from jobs.label.sources import Given
from jobs.label.split import split_trajectories
from jobs.label.tasks import Trajectory
from jobs.spec.label import LabelSpec, TrajectorySplit


def publish_chunks(
    spec: LabelSpec,
    split: TrajectorySplit,
    trajectories: Sequence[Trajectory],
    chunks: Sequence[Chunk],
    context: RunContext,
) -> Published:
    """Publish the frames of all chunks. Raises UserError where a split is left without a single frame."""
    failures = [(chunk.trajectory, failure) for chunk in chunks for failure in chunk.block.failures]
    first_reason = failures[0][1].message if failures else ""
    splits = split_trajectories(len(trajectories), split, spec.seed)
    _refuse_empty_splits(split, {splits[c.trajectory] for c in chunks if c.block.numbers}, first_reason)
    temperatures = [t for chunk in chunks for t in chunk.block.temperatures]
    left_out = [
        {"where": frame_id(number, failure.frame), "reason": failure.message}
        for number, failure in failures
        if failure.frame >= 0
    ]
    return publish_table(
        context.store,
        spec.dataset_name,
        chunk_table(trajectories, chunks, splits),
        kind="structures",
        statistics={"temperature_mean_K": sum(temperatures) / len(temperatures)},
        provenance={**provenance(spec, context), "failures_while_equilibrating": len(failures) - len(left_out)},
        skipped=Skipped(count=len(left_out), listed=tuple(left_out)),
    )


def provenance(spec: LabelSpec, context: RunContext) -> dict[str, Any]:
    """How the rows were made: what the spec says, and which programs computed it."""
    said = spec.model_dump(
        mode="json", exclude_none=True, include={"structures", "method", "sampling", "split", "seed"}
    )
    return {"kind": "label", "run": context.run_id, "programs": find_method(spec.method).versions(), **said}


def chunk_table(trajectories: Sequence[Trajectory], chunks: Sequence[Chunk], splits: Sequence[str]) -> pa.Table:
    """One row a frame, ordered by trajectory and frame. splits: of each trajectory."""
    starts = {trajectory.number: trajectory.start for trajectory in trajectories}
    rows, labels = [], []
    for chunk in sorted(chunks, key=lambda chunk: (chunk.trajectory, chunk.frames.start)):
        number, block = chunk.trajectory, chunk.block
        labels += block.labels
        rows += [
            Given(frame_id(number, frame), f"t{number:03d}", splits[number], starts[number].moved(positions))
            for frame, positions in zip(block.numbers, block.positions, strict=True)
        ]
    if any(each.stress is None for each in labels):  # trajectories that repeat beside some that do not
        labels = [each._replace(stress=None) for each in labels]
    return given_table(rows, labels)


def frame_id(trajectory: int, frame: int) -> str:
    """The id of a frame's row."""
    return f"t{trajectory:03d}-f{frame:05d}"


def _refuse_empty_splits(split: TrajectorySplit, there: set[str], first_failure: str) -> None:
    wanted = {"train"} | {name for name in ("valid", "test") if getattr(split, name)}
    if wanted - there:
        raise UserError(
            f"no frame of the {', '.join(sorted(wanted - there))} split could be computed",
            hint=f"the first failure was: {first_failure}" if first_failure else None,
        )
