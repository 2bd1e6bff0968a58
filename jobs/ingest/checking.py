"""Rows that were read, but cannot be rows of a dataset: found one by one, so that each is told by its place."""

import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.fitting import HEAVIEST
from cluster.dataset.schema import Kind
from cluster.dataset.tensors import is_tensor, tensor_numpy
from jobs.ingest.columns import flat_values, list_lengths
from jobs.ingest.source import Part, Unread

_NUMBERS = re.compile(r"(\d+)")


def sound(part: Part, kind: Kind) -> Part:
    """The part without rows that have values no dataset may hold; these join what could not be read."""
    reasons: dict[int, str] = {}
    for name in part.table.column_names:
        for row in np.flatnonzero(~_finite(part.table[name])).tolist():
            reasons.setdefault(row, f"{name} has a value that is not a number, or infinite")
    if kind == "structures" and len(part.table):
        for wrong, reason in _misfits(part.table):
            for row in np.flatnonzero(wrong).tolist():
                reasons.setdefault(row, reason)
    if kind == "points" and len(part.table):
        for row in np.flatnonzero(list_lengths(part.table["positions"]) < 3).tolist():
            reasons.setdefault(row, "it has no point")
    if not reasons:
        return part
    rest = np.setdiff1d(np.arange(len(part.table)), list(reasons))
    unread = [*part.unread, *(Unread(part.where(row), reasons[row]) for row in reasons)]
    in_order = sorted(unread, key=lambda each: [int(w) if w.isdigit() else w for w in _NUMBERS.split(each.where)])
    return Part(part.table.take(pa.array(rest)), lambda row: part.where(int(rest[row])), in_order)


def _misfits(table: pa.Table) -> list[tuple[NDArray[np.bool_], str]]:
    numbers, atoms = flat_values(table["numbers"]), list_lengths(table["numbers"])
    strange = np.zeros(len(table), dtype=bool)
    strange[np.repeat(np.arange(len(table)), atoms)[(numbers < 1) | (numbers > HEAVIEST)]] = True
    found = [(atoms < 1, "it has no atom"), (strange, f"atomic numbers are not all from 1 to {HEAVIEST}")]
    for name in ("positions", "forces"):
        if name in table.column_names:
            found.append((list_lengths(table[name]) != 3 * atoms, f"{name} are not three for each atom"))
    if "pbc" in table.column_names:
        repeats = tensor_numpy(table["pbc"]) != 0
        cell = tensor_numpy(table["cell"]) if "cell" in table.column_names else np.zeros((len(table), 3, 3))
        cell = np.where(np.isfinite(cell), cell, 0.0)  # what is not is told already
        absent = (repeats & (np.linalg.norm(cell, axis=2) == 0)).any(axis=1)
        flat = repeats.all(axis=1) & (np.linalg.det(cell) == 0)
        found.append((absent | flat, "it repeats along lattice vectors that are missing or span no volume"))
    return found


def _finite(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which rows hold finite numbers only; true for what holds none."""
    rows = np.ones(len(column), dtype=bool)
    if is_tensor(column.type):
        values = tensor_numpy(column)
        if values.dtype.kind == "f":
            rows = np.isfinite(values).reshape(len(rows), -1).all(axis=1)
    elif pa.types.is_floating(column.type):
        rows = np.isfinite(column.to_numpy(zero_copy_only=False))
    elif pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type):
        wrong = ~np.isfinite(flat_values(column))
        if wrong.any():
            rows[np.repeat(np.arange(len(rows)), list_lengths(column))[wrong]] = False
    return rows
