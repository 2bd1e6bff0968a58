"""The runner of kind `dataset`: read, split, publish."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.context import RunContext
from cluster.dataset.publish import publish_dataset
from cluster.errors import UserError
from jobs.ingest.readers import find_reader, settings_of
from jobs.ingest.reading import Reading
from jobs.ingest.rows import image_table, structure_table
from jobs.ingest.split import Unsplit, assign_splits
from jobs.spec.dataset import DatasetSpec


def run(spec: DatasetSpec, context: RunContext) -> dict[str, Any]:
    """Publish the dataset and return `dataset` (name@version), `rows`, `splits`, `digest`.

    Raises UserError (a file that is missing or of another format, nothing left to train on).
    """
    reader = find_reader(spec.source)
    with context.progress.task("ingest", total=2, unit="steps") as task:
        reading = reader.read(settings_of(spec.source), Path.cwd())
        table = split_table(reading, spec)
        task.advance(rows=len(table))
        manifest = publish_dataset(
            context.store,
            spec.dataset_name,
            table,
            kind=reader.kind,
            provenance={
                "kind": "dataset",
                "run": context.run_id,
                "source": spec.source.model_dump(mode="json"),
                "split": spec.split.model_dump(mode="json"),
                "seed": spec.seed,
                **(reading.provenance or {}),
            },
        )
        task.advance()
    return {
        "dataset": manifest.ref,
        "rows": manifest.rows,
        "splits": dict(manifest.splits),
        "digest": manifest.digest,
    }


def split_table(reading: Reading, spec: DatasetSpec) -> pa.Table:
    """The rows that were read, each with its split."""
    if reading.images:
        images = reading.images
        unsplit = [Unsplit(row.split, row.group, row.label) for row in images]
        splits = assign_splits(unsplit, spec.split, spec.seed)
        channels, height, width = images[0].pixels.shape
        rows = (replace(row, split=name) for row, name in zip(images, splits, strict=True))
        return image_table(rows, (channels, height, width))
    if not reading.structures:
        raise UserError(f"source {spec.source.name!r} gave no rows")
    structures = reading.structures
    splits = assign_splits([Unsplit(row.split, row.group) for row in structures], spec.split, spec.seed)
    return structure_table(replace(row, split=name) for row, name in zip(structures, splits, strict=True))
