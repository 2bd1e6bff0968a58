"""Frames of rMD17 for every potential: the same split, units, reference and edges, whatever the package.

Shapes: M frames of n atoms; B of them in a batch, E edges. Units: angstrom, eV, eV/angstrom.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KCAL_PER_MOL = 0.0433641153087705  # eV
TRAINED = 950  # of the 1,000 training frames; the 50 others are for validation


@dataclass(frozen=True)
class Frames:
    """numbers (n,); positions (M, n, 3); energies (M,), less the mean of the training frames; forces (M, n, 3)."""

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.energies)

    def part(self, start: int, end: int) -> "Frames":
        """Frames of these places."""
        return Frames(self.numbers, self.positions[start:end], self.energies[start:end], self.forces[start:end])


@dataclass(frozen=True)
class Batch:
    """Frames side by side. positions (B n, 3) float32; kinds (B n,) index among the sorted elements; edges (2, E)
    [sender, receiver], within a frame; owner (B n,), the frame of each atom; frames: B."""

    positions: Tensor
    kinds: Tensor
    edges: Tensor
    owner: Tensor
    frames: int


def batch_of(numbers: NDArray[np.int64], positions: NDArray[np.float64], cutoff: float) -> Batch:
    """positions (B, n, 3); edges where atoms are nearer than the cutoff."""
    count, atoms = positions.shape[:2]
    far = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1) + cutoff * np.eye(atoms)
    frame, sender, receiver = np.nonzero(far < cutoff)
    kinds = np.searchsorted(np.unique(numbers), numbers)
    return Batch(
        torch.from_numpy(positions.reshape(-1, 3)).float(),
        torch.from_numpy(np.tile(kinds, count)),
        torch.from_numpy(np.stack([frame * atoms + sender, frame * atoms + receiver])),
        torch.arange(count).repeat_interleave(atoms),
        count,
    )


def frames(molecule: str) -> tuple[Frames, Frames, Frames]:
    """Training, validation and test frames of split 01. Christensen and von Lilienfeld 2020 (arXiv 2007.09593), CC0."""
    folder = Path(os.environ["EQUI_BENCH_DATA"]) / "rmd17"
    train, test = (np.load(folder / f"rmd17_{molecule}_{part}_01.npz") for part in ("train", "test"))
    mean = float(train["energies"][:TRAINED].mean())
    whole, tested = (
        Frames(
            file["nuclear_charges"].astype(np.int64),
            file["coords"],
            (file["energies"] - mean) * KCAL_PER_MOL,
            file["forces"] * KCAL_PER_MOL,
        )
        for file in (train, test)
    )
    return whole.part(0, TRAINED), whole.part(TRAINED, len(whole)), tested
