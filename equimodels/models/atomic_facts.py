"""What a potential has to know about its data before training: species, reference energies, scales."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equimodels.errors import SettingError
from equimodels.models.neighbours import neighbour_pairs_of_many

LabelledStructure = tuple[Any, ...]  # numbers, positions, energy, forces, and of periodic ones cell and pbc

TOGETHER = 1024  # structures whose neighbours are found at a time


def atomic_facts(samples: Iterable[LabelledStructure], cutoff: float) -> dict[str, Any]:
    """Facts of labelled structures: numbers (n,), positions (n, 3) angstrom, energy eV, forces (n, 3) eV/angstrom.

    Where structures are periodic all have also a cell (3, 3) angstrom and pbc (3,), which of its rows repeat.
    Returns, all JSON and exact through it: `species` (sorted atomic numbers); `reference_energies` (eV, one a species,
    by least squares over the energies in float64, of least norm where the compositions leave them open); `force_rms`
    (eV/angstrom, of a component); `force_mean_abs`; `energy_rms_per_atom` (eV, of what the references leave over);
    `mean_neighbours` (within `cutoff`); `structures`; `atoms`.
    Raises SettingError when there are no samples, one is not finite, or all forces are zero.
    """
    numbers: list[NDArray[Any]] = []
    energies: list[float] = []
    places: list[tuple[NDArray[Any], ...]] = []
    squares, absolute = 0.0, 0.0
    for number, positions, energy, forces, *lattice in samples:
        force = np.asarray(forces, dtype=np.float64)
        if not (np.isfinite(force).all() and math.isfinite(float(energy))):
            raise SettingError("samples", f"structure {len(numbers)} with a label that is not finite", "finite labels")
        numbers.append(np.asarray(number, dtype=np.int64))
        energies.append(float(energy))
        squares += float((force**2).sum())
        absolute += float(np.abs(force).sum())
        places.append((positions, *lattice))
    atoms = sum(len(number) for number in numbers)
    if atoms == 0:
        raise SettingError("samples", "no atoms", "at least one labelled structure")
    if squares == 0:
        raise SettingError("samples", "forces that are all zero", "forces to learn from; they set the scale")
    species = np.unique(np.concatenate(numbers))
    counts = np.stack([(number[:, None] == species).sum(axis=0) for number in numbers]).astype(np.float64)
    energy_array = np.array(energies)
    reference = np.linalg.lstsq(counts, energy_array, rcond=None)[0]
    left_over = (energy_array - counts @ reference) / counts.sum(axis=1)
    return {
        "species": species.tolist(),
        "reference_energies": reference.tolist(),
        "force_rms": math.sqrt(squares / (3 * atoms)),
        "force_mean_abs": absolute / (3 * atoms),
        "energy_rms_per_atom": float(np.sqrt((left_over**2).mean())),
        # At least one, so that a data set of isolated atoms does not divide by zero.
        "mean_neighbours": max(_edges(places, cutoff) / atoms, 1.0),
        "structures": len(numbers),
        "atoms": atoms,
    }


def _edges(places: list[tuple[NDArray[Any], ...]], cutoff: float) -> int:
    """Pairs within the cutoff of all structures, (positions,) or (positions, cell, pbc) each."""
    edges = 0
    for start in range(0, len(places), TOGETHER):
        positions, *lattices = zip(*places[start : start + TOGETHER], strict=True)
        sizes = np.array([len(x) for x in positions])
        stacked = [np.stack(parts) for parts in lattices]
        edges += neighbour_pairs_of_many(np.concatenate(positions), sizes, cutoff, *stacked).edges.shape[1]
    return edges
