"""One structure before it is labelled. Shapes: N atoms. Angstrom."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """What a calculator is asked about."""

    numbers: NDArray[np.int64]  # (N,) atomic numbers
    positions: Floats  # (N, 3) angstrom
    cell: Floats | None = None  # (3, 3), rows are lattice vectors; None: it does not repeat
    pbc: NDArray[np.bool_] | None = None  # (3,)
    charge: float | None = None  # e; None: as the method has it
    spin: int | None = None  # multiplicity, 2S + 1; None: as the method has it

    @classmethod
    def of(cls, atoms: Any) -> "Geometry":
        """The geometry of ASE's atoms; a cell in which nothing repeats is only a container and is left out."""
        repeats = bool(np.any(atoms.pbc))
        return cls(
            numbers=np.array(atoms.numbers, dtype=np.int64),
            positions=np.array(atoms.positions, dtype=np.float64),
            cell=np.array(atoms.cell.array, dtype=np.float64) if repeats else None,
            pbc=np.array(atoms.pbc, dtype=bool) if repeats else None,
        )

    @property
    def has_stress(self) -> bool:
        """Whether it repeats and its lattice spans a volume, without which stress has no meaning."""
        return self.cell is not None and bool(abs(np.linalg.det(self.cell)) > 0)

    def atoms(self) -> Any:
        """ASE's atoms without a calculator; charge and spin in `info`, where calculators look for them."""
        atoms: Any = Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        if self.charge is not None:
            atoms.info["charge"] = self.charge
        if self.spin is not None:
            atoms.info["spin"] = self.spin
        return atoms

    def moved(self, positions: Floats) -> "Geometry":
        """The same atoms elsewhere."""
        return replace(self, positions=positions)

    def content(self) -> bytes:
        """All of it as bytes, for digests."""
        parts = [array.tobytes() for array in (self.numbers, self.positions, self.cell, self.pbc) if array is not None]
        return b"".join([*parts, f"{self.charge} {self.spin}".encode()])
