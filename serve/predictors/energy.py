"""Energies and forces of molecules.

Shapes: n atoms of one structure. Positions in angstrom, energies in eV, forces in eV/angstrom.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from equimodels.models.graph import AtomGraph, Structure
from serve.elements import named
from serve.rejection import RejectedError
from serve.schemas import UNITS, StructureIn
from serve.spec import Limits

FARTHEST = 1.0e6  # angstrom from the origin; beyond, float64 keeps fewer than ten digits of a bond


@dataclass(frozen=True)
class EnergyForces:
    """energy: eV; forces: (n, 3) eV/angstrom."""

    energy: float
    forces: NDArray[np.float64]


class EnergyPredictor:
    """A potential behind the `Predictor` protocol."""

    def __init__(
        self,
        model: Callable[[AtomGraph], Any],
        *,
        species: Sequence[int],
        cutoff: float,
        facts: Mapping[str, Any],
        limits: Limits,
        budget: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """species: atomic numbers the model was trained on. cutoff: angstrom. budget: atoms in one batch."""
        self._model, self._cutoff, self._limits, self._budget = model, cutoff, limits, budget
        self._device, self._dtype = device, dtype
        self._species = np.unique(np.asarray(species, dtype=np.int64))
        self.facts: Mapping[str, Any] = {
            **facts,
            "species": [int(number) for number in self._species],
            "cutoff_ang": cutoff,
            "units": UNITS,
        }

    def prepare(self, raw: StructureIn) -> Structure:
        """Check a structure and find its neighbours; positions are centred in float64 so that none loses
        digits."""
        n = len(raw.numbers)
        if n > self._budget:
            raise RejectedError(413, "too_large", f"{n} atoms in one structure; allowed: at most {self._budget}")
        if len(raw.positions) != n:
            message = (
                f"{len(raw.positions)} positions for {n} atomic numbers; one position (x, y, z) per atom is needed"
            )
            raise RejectedError(422, "wrong_shape", message, where=("positions",))
        numbers = np.asarray(raw.numbers, dtype=np.int64)
        positions = np.asarray(raw.positions, dtype=np.float64).reshape(n, 3)
        self._check_species(numbers)
        self._check_positions(positions)
        return Structure.of(numbers, positions - positions.mean(axis=0), self._cutoff)

    def cost(self, item: Structure) -> int:
        """Atoms."""
        return len(item.numbers)

    def predict(self, items: list[Structure]) -> list[EnergyForces | Exception]:
        """One forward for all structures. A structure whose answer is not finite fails alone."""
        graph = AtomGraph.collate(items).to(device=self._device, dtype=self._dtype)
        with torch.no_grad():
            out = self._model(graph)
        energy = out.energy.detach().double().cpu().numpy()
        forces = np.split(
            out.forces.detach().double().cpu().numpy(), np.cumsum([len(item.numbers) for item in items])[:-1]
        )
        return [
            EnergyForces(float(e), f)
            if np.isfinite(e) and np.isfinite(f).all()
            else RejectedError(500, "not_finite", "the model's energy or forces of this structure are not finite")
            for e, f in zip(energy, forces, strict=True)
        ]

    def probe(self) -> Structure:
        """Two atoms of a known species, 1.5 angstrom apart."""
        number = int(self._species[0])
        return self.prepare(
            StructureIn(
                numbers=[number, number],
                positions=[[0.0, 0.0, 0.0], [max(1.5, self._limits.min_distance_ang * 1.1), 0.0, 0.0]],
            )
        )

    def _check_species(self, numbers: NDArray[np.int64]) -> None:
        unknown = np.flatnonzero(~np.isin(numbers, self._species))
        if len(unknown):
            known = ", ".join(named(int(number)) for number in self._species)
            message = f"atomic number {named(int(numbers[unknown[0]]))} was not in the training data; known: {known}"
            raise RejectedError(422, "unknown_species", message, where=("numbers", int(unknown[0])))

    def _check_positions(self, positions: NDArray[np.float64]) -> None:
        wrong = np.flatnonzero(~(np.abs(positions) <= FARTHEST).all(axis=1))  # NaN compares false, so it is caught too
        if len(wrong):
            message = f"a coordinate is not finite or more than {FARTHEST:g} angstrom from the origin"
            raise RejectedError(422, "bad_position", message, where=("positions", int(wrong[0])))
        if len(positions) < 2:
            return
        tree = cKDTree(positions)
        distance, nearest = tree.query(positions, k=2)
        # Of two atoms on one spot either may come back first, so the partner is not always in the second
        # column.
        atom = int(np.argmin(distance[:, 1]))
        if distance[atom, 1] < self._limits.min_distance_ang:
            partner = int(nearest[atom, 1]) if nearest[atom, 1] != atom else int(nearest[atom, 0])
            message = (
                f"atoms {min(atom, partner)} and {max(atom, partner)} are {distance[atom, 1]:.3f} angstrom apart; "
                f"allowed: at least {self._limits.min_distance_ang:g} angstrom (are the positions in angstrom?)"
            )
            raise RejectedError(422, "too_close", message, where=("positions", max(atom, partner)))
        # Counted before they are listed: 20,000 atoms at 0.3 angstrom would be a graph of 10^8 edges.
        pairs = int(tree.count_neighbors(tree, self._cutoff)) - len(positions)
        if pairs > self._limits.max_pairs:
            message = (
                f"{pairs} neighbour pairs within {self._cutoff:g} angstrom; allowed: at most {self._limits.max_pairs}"
            )
            raise RejectedError(413, "too_dense", message)
