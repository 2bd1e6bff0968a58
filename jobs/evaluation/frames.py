"""Labelled structures as arrays, from a table of the structures schema.

Shapes: B structures, n atoms of one structure. Angstrom, eV, eV/angstrom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.tensors import tensor_numpy
from jobs.data.states import charges_and_spins

Floats = NDArray[np.float64]
Lattice = tuple[Floats, NDArray[np.bool_]]  # cell (3, 3) angstrom, rows are lattice vectors; pbc (3,)
State = tuple[float, int]  # charge, e; multiplicity, 2 S + 1


@dataclass(frozen=True)
class Frames:
    """What a predictor is asked, and what the reference method says."""

    ids: Sequence[str]
    numbers: Sequence[NDArray[np.int64]]  # B times (n,)
    positions: Sequence[Floats]  # B times (n, 3)
    energies: Floats  # (B,)
    forces: Sequence[Floats]  # B times (n, 3)
    lattices: Sequence[Lattice] | None = None  # B of them, where the dataset has cells
    states: Sequence[State] | None = None  # B of them, where the dataset has charges or spins

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def atoms(self) -> Floats:
        """(B,) atoms of each structure."""
        return np.array([len(z) for z in self.numbers], dtype=np.float64)

    def first(self, rows: int) -> "Frames":
        """The first rows."""
        return self.part(0, rows)

    def part(self, start: int, stop: int) -> "Frames":
        """Rows start to stop."""
        return Frames(
            self.ids[start:stop],
            self.numbers[start:stop],
            self.positions[start:stop],
            self.energies[start:stop],
            self.forces[start:stop],
            None if self.lattices is None else self.lattices[start:stop],
            None if self.states is None else self.states[start:stop],
        )


@dataclass(frozen=True)
class Prediction:
    """What a predictor answers: energies (B,) eV, forces B times (n, 3) eV/angstrom."""

    energies: Floats
    forces: Sequence[Floats]


def frames_of(table: pa.Table) -> Frames:
    """The rows of the table, in its order."""
    lattices = None
    if {"cell", "pbc"} <= set(table.column_names):
        cells, pbc = tensor_numpy(table["cell"]), tensor_numpy(table["pbc"]).astype(bool)
        lattices = list(zip(cells, pbc, strict=True))
    told = charges_and_spins(table)
    return Frames(
        ids=table["id"].to_pylist(),
        numbers=[np.array(row, dtype=np.int64) for row in table["numbers"].to_pylist()],
        positions=[np.array(row, dtype=np.float64).reshape(-1, 3) for row in table["positions"].to_pylist()],
        energies=np.array(table["energy"].to_numpy(), dtype=np.float64),
        forces=[np.array(row, dtype=np.float64).reshape(-1, 3) for row in table["forces"].to_pylist()],
        lattices=lattices,
        states=None if told is None else list(zip(*(values.tolist() for values in told), strict=True)),
    )
