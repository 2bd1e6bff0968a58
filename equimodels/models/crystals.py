"""Structures some of which are periodic, with their atoms moved into their cells.

Shapes: B structures, C of them chosen, n atoms of these, m pairs. Lengths in angstrom.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from equimodels.models.all_pairs import CoincidentError, Flags, Floats, Integers
from equimodels.models.lattice import images_of, translation


@dataclass(frozen=True)
class Crystals:
    """The chosen structures.

    atoms (n,), numbers among all atoms; positions (3, n) as given and inside (3, n) in the cells; moved (3, n), the
    images of the cells they were in; owner (n,), first (C,) and sizes (C,); cells (C, 3, 3), completed; pbc (C, 3).
    """

    atoms: Integers
    positions: Floats
    inside: Floats
    moved: Integers
    owner: Integers
    first: Integers
    sizes: Integers
    cells: Floats
    pbc: Flags

    @classmethod
    def of(cls, positions: Floats, sizes: Integers, chosen: Integers, cells: Floats, pbc: Flags) -> Self:
        """positions (N, 3) and sizes (B,) of all structures; chosen, rising; cells, completed, and pbc of the chosen.

        Raises ValueError for atoms far beyond the cell.
        """
        atoms = np.flatnonzero(np.repeat(np.isin(np.arange(len(sizes)), chosen), sizes))
        sizes = sizes[chosen]
        owner = np.repeat(np.arange(len(chosen)), sizes)
        x = np.ascontiguousarray(positions[atoms].T)
        moved = images_of(x, cells, pbc, owner)
        inside = x - np.stack([translation(moved, cells, owner, axis) for axis in range(3)])
        return cls(atoms, x, inside, moved, owner, np.cumsum(sizes) - sizes, sizes, cells, pbc)

    def rounding(self) -> float:
        """By how many angstrom a distance inside the cells can differ from the one as given."""
        return 1e-9 + 1e-14 * float(np.abs(self.positions).max(initial=0.0))

    def images(self, one: NDArray[Any], two: NDArray[Any], shift: Integers) -> Integers:
        """(3, m), the image that `two` is in, seen from `one`, when inside the cells it is in image `shift` (3, m)."""
        if not self.moved.any():
            return shift
        images = shift.copy()
        for axis in range(3):
            images[axis] += self.moved[axis].take(one)
            images[axis] -= self.moved[axis].take(two)
        return images

    def squared_distances(self, one: Integers, two: Integers, images: Integers) -> Floats:
        """(m,), (x^2 + y^2) + z^2 of (x, y, z) = (r_two - r_one) + S @ cell, in coordinates as given."""
        squared, owner = np.zeros(len(one)), self.owner[one]
        for axis in range(3):
            step = self.positions[axis].take(two) - self.positions[axis].take(one)
            step += translation(images, self.cells, owner, axis)
            squared += step * step
        return squared

    def coincident(self, one: int, two: int, shift: Integers) -> CoincidentError:
        """The error, with numbers among all atoms, for atom `one` and the image of `two` in `shift` (3,)."""
        image = self.images(np.array([one]), np.array([two]), shift[:, None])
        return CoincidentError(int(self.atoms[one]), int(self.atoms[two]), bool(image.any()))
