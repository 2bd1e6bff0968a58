"""Rows of the two kinds of dataset, and the Arrow tables made from them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.schema import STRUCTURES, images_schema


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
    pixels: NDArray[np.float32]  # (C, H, W)
    label: int
    group: str
    split: str


def structure_table(rows: Iterable[StructureRow]) -> pa.Table:
    """The rows as a table of the structures schema."""
    return pa.Table.from_pylist(
        [
            {
                "id": row.id,
                "numbers": row.numbers.tolist(),
                "positions": row.positions.ravel().tolist(),
                "energy": row.energy,
                "forces": row.forces.ravel().tolist(),
                "group": row.group,
                "split": row.split,
            }
            for row in rows
        ],
        schema=STRUCTURES,
    )


def image_table(rows: Iterable[ImageRow], shape: tuple[int, int, int]) -> pa.Table:
    """The rows as a table of the images schema; every image has the shape (C, H, W)."""
    return pa.Table.from_pylist(
        [
            {
                "id": row.id,
                "pixels": row.pixels.ravel().tolist(),
                "label": row.label,
                "group": row.group,
                "split": row.split,
            }
            for row in rows
        ],
        schema=images_schema(shape),
    )
