"""Labelled structures as arrays, from a table of the structures schema.

Shapes: B structures, n atoms of one structure. Angstrom, eV, eV/angstrom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Frames:
    """What a predictor is asked, and what the reference method says."""

    ids: Sequence[str]
    numbers: Sequence[NDArray[np.int64]]  # B times (n,)
    positions: Sequence[Floats]  # B times (n, 3)
    energies: Floats  # (B,)
    forces: Sequence[Floats]  # B times (n, 3)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def atoms(self) -> Floats:
        """(B,) atoms of each structure."""
        return np.array([len(z) for z in self.numbers], dtype=np.float64)

    def first(self, rows: int) -> "Frames":
        """The first rows."""
        return Frames(
            self.ids[:rows], self.numbers[:rows], self.positions[:rows], self.energies[:rows], self.forces[:rows]
        )


@dataclass(frozen=True)
class Prediction:
    """What a predictor answers: energies (B,) eV, forces B times (n, 3) eV/angstrom."""

    energies: Floats
    forces: Sequence[Floats]


def frames_of(table: pa.Table) -> Frames:
    """The rows of the table, in its order."""
    return Frames(
        ids=table["id"].to_pylist(),
        numbers=[np.array(row, dtype=np.int64) for row in table["numbers"].to_pylist()],
        positions=[np.array(row, dtype=np.float64).reshape(-1, 3) for row in table["positions"].to_pylist()],
        energies=np.array(table["energy"].to_numpy(), dtype=np.float64),
        forces=[np.array(row, dtype=np.float64).reshape(-1, 3) for row in table["forces"].to_pylist()],
    )
