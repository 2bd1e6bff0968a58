"""Labelled structures as rows of the dataset to come."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jobs.ingest.columns import table_of
from jobs.ingest.structures import Label, Structure, structure_columns
from jobs.label.geometry import Geometry
from jobs.label.labels import Labels
from jobs.label.sources import Given


def given_table(given: Sequence[Given], labels: Sequence[Labels] | None = None) -> pa.Table:
    """One row a structure; cell and pbc where one of them repeats. labels: of each, or none at all."""
    structures = [_structure(each.geometry, labels[row] if labels else None) for row, each in enumerate(given)]
    ids = pa.array([each.id for each in given], pa.string())
    table = table_of(ids, structure_columns(structures), groups=[each.group for each in given])
    return table.set_column(table.column_names.index("split"), "split", pa.array([each.split for each in given]))


def _structure(geometry: Geometry, labels: Labels | None) -> Structure:
    said: dict[Label, Any] = {"charge": geometry.charge, "spin": geometry.spin}
    if labels is not None:
        said |= {"energy": labels.energy, "forces": labels.forces, "stress": labels.stress}
    there = {name: value for name, value in said.items() if value is not None}
    return Structure(geometry.numbers, geometry.positions, geometry.cell, geometry.pbc, there)
