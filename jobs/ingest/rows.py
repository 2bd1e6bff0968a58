"""Tables made of rows that are in hand one by one, as the runner of `label` has them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.ingest.columns import tensors
from jobs.ingest.structures import Structure, structure_columns


@dataclass(frozen=True)
class StructureRow:
    """One labelled geometry of N atoms."""

    id: str
    numbers: NDArray[np.integer]  # (N,) atomic numbers
    positions: NDArray[np.float64]  # (N, 3) angstrom
    energy: float  # eV
    forces: NDArray[np.float64]  # (N, 3) eV/angstrom
    group: str  # what must not be torn apart by a split: a trajectory, a file
    split: str


@dataclass(frozen=True)
class ImageRow:
    """One labelled image of C channels, H x W pixels."""

    id: str
    pixels: NDArray[np.float32] | NDArray[np.uint8]  # (C, H, W)
    label: int
    group: str
    split: str


def structure_table(rows: Iterable[StructureRow]) -> pa.Table:
    """The rows as a table of the kind structures."""
    rows = list(rows)
    labelled = [Structure(r.numbers, r.positions, labels={"energy": r.energy, "forces": r.forces}) for r in rows]
    return _named(rows, structure_columns(labelled))


def image_table(rows: Iterable[ImageRow], shape: tuple[int, int, int]) -> pa.Table:
    """The rows as a table of the kind images; every image has the shape (C, H, W)."""
    rows = list(rows)
    pixels = np.stack([row.pixels for row in rows]).reshape(-1, *shape)
    labels = pa.array([row.label for row in rows], pa.int64())
    return _named(rows, {"pixels": tensors(pixels), "label": labels})


def _named(rows: list[StructureRow] | list[ImageRow], columns: dict[str, pa.Array]) -> pa.Table:
    def texts(name: str) -> pa.Array:
        return pa.array([getattr(row, name) for row in rows], pa.string())

    return pa.table({"id": texts("id"), **columns, "group": texts("group"), "split": texts("split")})
