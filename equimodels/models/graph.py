"""Atoms as a graph: one structure, and many of them as one graph without edges between them.

Shapes: N atoms, E directed edges, B structures. Lengths in angstrom.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equimodels.models.neighbours import neighbour_pairs


@dataclass(frozen=True)
class Structure:
    """One structure: numbers (n,) int64, positions (n, 3), edges (2, e) int64 [sender, receiver].

    Of a periodic one also: shifts (e, 3), the lattice translation to add to the vector of each edge; cell (3, 3), rows
    are lattice vectors, float64; pbc (3,), which of them repeat. charge: in elementary charges; spin: multiplicity,
    2 S + 1.
    """

    numbers: Tensor
    positions: Tensor
    edges: Tensor
    shifts: Tensor | None = None
    cell: Tensor | None = None
    pbc: Tensor | None = None
    charge: float = 0.0
    spin: int = 1

    @classmethod
    def of(
        cls,
        numbers: NDArray[Any],
        positions: NDArray[Any],
        cutoff: float,
        dtype: torch.dtype = torch.float64,
        *,
        cell: NDArray[Any] | None = None,
        pbc: NDArray[Any] | None = None,
    ) -> Self:
        """Find the edges within `cutoff` angstrom; all directions of a cell repeat unless `pbc` says which.

        Raises ValueError when the arrays do not fit each other.
        """
        positions = np.asarray(positions, dtype=np.float64)
        numbers = np.asarray(numbers, dtype=np.int64)
        if positions.shape != (len(numbers), 3):
            raise ValueError(f"positions have shape {positions.shape}; allowed: ({len(numbers)}, 3), one row an atom")
        found = neighbour_pairs(positions, cutoff, cell, pbc)
        atoms = torch.from_numpy(numbers.copy()), torch.from_numpy(positions.copy()).to(dtype)
        edges = torch.from_numpy(found.edges)
        if cell is None:
            return cls(*atoms, edges)
        lattice = np.array(cell, dtype=np.float64)
        repeats = np.ones(3, dtype=np.bool_) if pbc is None else np.array(pbc, dtype=np.bool_)
        # What stands in rows that do not repeat may be anything, NaN too.
        shifts = found.images @ np.where(repeats[:, None], lattice, 0.0)
        return cls(
            *atoms, edges, torch.from_numpy(shifts).to(dtype), torch.from_numpy(lattice), torch.from_numpy(repeats)
        )


@dataclass(frozen=True)
class AtomGraph:
    """Structures side by side.

    numbers (N,) int64; positions (N, 3); edges (2, E) int64 [sender, receiver]; shifts (E, 3), added to the vector from
    sender to receiver (zero when not periodic); owner (N,) int64, the structure of each atom; structures: B; state
    (B, 2), charge and number of unpaired electrons, or None where all are neutral singlets.
    """

    numbers: Tensor
    positions: Tensor
    edges: Tensor
    shifts: Tensor
    owner: Tensor
    structures: int
    state: Tensor | None = None

    @classmethod
    def collate(cls, structures: Sequence[Structure]) -> Self:
        """One graph of all, in order. Raises ValueError for an empty sequence."""
        if not structures:
            raise ValueError("a graph needs at least one structure")
        sizes = torch.tensor([len(structure.numbers) for structure in structures])
        start = torch.cumsum(sizes, 0) - sizes
        edges = torch.cat(
            [structure.edges + offset for structure, offset in zip(structures, start, strict=True)], dim=1
        )
        positions = torch.cat([structure.positions for structure in structures])
        return cls(
            numbers=torch.cat([structure.numbers for structure in structures]),
            positions=positions,
            edges=edges,
            shifts=_shifts(structures, positions),
            owner=torch.repeat_interleave(torch.arange(len(structures)), sizes),
            structures=len(structures),
            state=states([s.charge for s in structures], [s.spin for s in structures], positions),
        )

    def usable_by_autograd(self) -> Self:
        """The same graph with copies of the tensors that were made in inference mode, which autograd refuses."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        copies: dict[str, Any] = {name: value.clone() for name, value in tensors.items() if value.is_inference()}
        return replace(self, **copies) if copies else self

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move everything to `device`; cast lengths, not indices, to `dtype`."""
        return replace(
            self,
            numbers=self.numbers.to(device),
            positions=self.positions.to(device=device, dtype=dtype),
            edges=self.edges.to(device),
            shifts=self.shifts.to(device=device, dtype=dtype),
            owner=self.owner.to(device),
            state=None if self.state is None else self.state.to(device=device, dtype=dtype),
        )


def states(charges: Sequence[float], spins: Sequence[int], like: Tensor) -> Tensor | None:
    """(B, 2) charges and numbers of unpaired electrons, in the dtype of `like`; None for neutral singlets alone.

    spins: multiplicities, 2 S + 1. Raises ValueError for one below 1.
    """
    if any(spin < 1 for spin in spins):
        raise ValueError(f"a multiplicity of {min(spins)}; allowed: 1 and more, 2 S + 1")
    if not any(charges) and all(spin == 1 for spin in spins):
        return None
    pairs = [[charge, spin - 1] for charge, spin in zip(charges, spins, strict=True)]
    return torch.tensor(pairs, dtype=like.dtype)


def _shifts(structures: Sequence[Structure], like: Tensor) -> Tensor:
    """(E, 3) of all structures, zero where one is not periodic, in the dtype of `like`."""
    if all(structure.shifts is None for structure in structures):
        return like.new_zeros(sum(structure.edges.shape[1] for structure in structures), 3)
    return torch.cat(
        [like.new_zeros(len(s.edges[0]), 3) if s.shifts is None else s.shifts.to(like) for s in structures]
    )
