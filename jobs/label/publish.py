"""Chunks become a dataset: rows, splits by trajectory, statistics, and how it was made."""

from collections.abc import Sequence

import pyarrow as pa

from cluster.context import RunContext
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.publish import publish_dataset
from cluster.errors import UserError
from jobs.ingest.rows import StructureRow, structure_table
from jobs.label.calculators import find_method
from jobs.label.chunks import Chunk
from jobs.label.split import split_trajectories
from jobs.label.tasks import Trajectory
from jobs.spec.label import LabelSpec

_FAILURES_NAMED = 20  # in the manifest; all of them are counted, and all stay in the chunks


def publish_chunks(
    spec: LabelSpec, trajectories: Sequence[Trajectory], chunks: Sequence[Chunk], context: RunContext
) -> DatasetManifest:
    """Publish the frames of all chunks. Raises UserError where a split is left without a single frame."""
    table = chunk_table(spec, trajectories, chunks)
    failures = [(chunk.trajectory, failure) for chunk in chunks for failure in chunk.block.failures]
    _refuse_empty_splits(spec, table, failures[0][1].message if failures else "")
    temperatures = [t for chunk in chunks for t in chunk.block.temperatures]
    statistics = {
        "temperature_mean_K": sum(temperatures) / len(temperatures),
        "failed_frames": sum(1 for _, failure in failures if failure.frame >= 0),
    }
    provenance = {
        "kind": "label",
        "run": context.run_id,
        "method": spec.method.model_dump(mode="json"),
        "programs": find_method(spec.method).versions(),
        "structures": spec.structures.model_dump(mode="json", exclude_none=True),
        "sampling": spec.sampling.model_dump(mode="json"),
        "split": spec.split.model_dump(mode="json"),
        "seed": spec.seed,
        "failures": [
            {"trajectory": number, "frame": failure.frame, "message": failure.message}
            for number, failure in failures[:_FAILURES_NAMED]
        ],
    }
    return publish_dataset(
        context.store,
        spec.dataset_name,
        table,
        kind="structures",
        statistics=statistics,
        provenance=provenance,
    )


def chunk_table(spec: LabelSpec, trajectories: Sequence[Trajectory], chunks: Sequence[Chunk]) -> pa.Table:
    """One row a frame, ordered by trajectory and frame."""
    splits = split_trajectories(len(trajectories), spec.split, spec.seed)
    atoms = {trajectory.number: trajectory.atoms for trajectory in trajectories}
    ordered = sorted(chunks, key=lambda chunk: (chunk.trajectory, chunk.frames.start))
    return structure_table(
        StructureRow(
            id=f"t{chunk.trajectory:03d}-f{number:05d}",
            numbers=atoms[chunk.trajectory],
            positions=positions,
            energy=energy,
            forces=forces,
            group=f"t{chunk.trajectory:03d}",
            split=splits[chunk.trajectory],
        )
        for chunk in ordered
        for number, positions, energy, forces in zip(
            chunk.block.numbers, chunk.block.positions, chunk.block.energies, chunk.block.forces, strict=True
        )
    )


def _refuse_empty_splits(spec: LabelSpec, table: pa.Table, first_failure: str) -> None:
    there = set(table["split"].to_pylist())
    wanted = {"train"} | {name for name in ("valid", "test") if getattr(spec.split, name)}
    if wanted - there:
        raise UserError(
            f"no frame of the {', '.join(sorted(wanted - there))} split could be computed",
            hint=f"the first failure was: {first_failure}" if first_failure else None,
        )
