"""Whether the columns of one kind fit each other, row by row.

Shapes: n atoms or points of a row, f features of a point.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.dataset.schema import Kind
from cluster.dataset.tensors import tensor_numpy
from cluster.errors import UserError

HEAVIEST = 118  # oganesson


def refuse_misfits(table: pa.Table, kind: Kind) -> None:
    """Raise `UserError`, naming rows, where lists have the wrong lengths or a lattice is none."""
    if not table.num_rows:
        return
    if kind == "structures":
        _refuse_ragged_structures(table)
        _refuse_lattices(table)
    if kind == "points":
        _refuse_ragged_points(table)


def lengths(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """The length of the list in each row."""
    found: NDArray[np.int64] = pc.list_value_length(column).to_numpy().astype(np.int64)
    return found


def _refuse_ragged_structures(table: pa.Table) -> None:
    atoms = lengths(table["numbers"])
    wrong = atoms < 1
    for name in ("positions", "forces"):
        if name in table.column_names:
            wrong |= lengths(table[name]) != 3 * atoms
    _refuse(
        table,
        wrong,
        "structures have lists that do not fit",
        "at least one atom, and three positions and three forces for each",
    )
    for chunk in table["numbers"].chunks:
        numbers = chunk.flatten().to_numpy()
        if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= HEAVIEST:
            found = sorted({int(z) for z in np.unique(numbers) if not 1 <= z <= HEAVIEST})
            raise UserError(f"structures have atoms of no element: {found[:3]}", allowed=f"1 (hydrogen) to {HEAVIEST}")


def _refuse_lattices(table: pa.Table) -> None:
    if "pbc" not in table.column_names:
        return
    periodic = tensor_numpy(table["pbc"])
    strange: NDArray[np.bool_] = np.any(periodic > 1, axis=1)
    _refuse(table, strange, "structures have pbc that is neither 0 nor 1", "0 or 1 for each vector")
    repeats = periodic.astype(bool)
    if not repeats.any():
        return
    if "cell" not in table.column_names:
        raise UserError("structures repeat (pbc) but have no column 'cell'", allowed="lattice vectors, (3, 3) angstrom")
    cell = tensor_numpy(table["cell"])
    absent = (repeats & (np.linalg.norm(cell, axis=2) == 0)).any(axis=1)
    flat = repeats.all(axis=1) & (np.linalg.det(cell) == 0)
    _refuse(
        table,
        absent | flat,
        "structures repeat along lattice vectors that are missing",
        "a vector for each direction of pbc; three of them span a volume",
    )


def _refuse_ragged_points(table: pa.Table) -> None:
    flat = lengths(table["positions"])
    points = flat // 3
    _refuse(table, (flat < 3) | (flat % 3 != 0), "clouds have positions that do not fit", "three numbers a point")
    if "features" in table.column_names:
        features = lengths(table["features"])
        each = int(features[0] // points[0])
        _refuse(
            table,
            (features != each * points) | (each == 0),
            "clouds have features that do not fit",
            f"the same number for each point ({each} in the first row)",
        )


def _refuse(table: pa.Table, wrong: NDArray[np.bool_], what: str, allowed: str) -> None:
    if wrong.any():
        ids = table["id"].take(pa.array(np.flatnonzero(wrong))).to_pylist()
        some = ", ".join(ids[:3]) + (" ..." if len(ids) > 3 else "")
        raise UserError(f"{len(ids)} {what}: {some}", allowed=allowed)
