"""A published model that is asked about rows: features of images, energies and forces of structures.

Shapes: B rows, C channels, H x W pixels, D features, N atoms of all structures. Angstrom, eV, eV/angstrom.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cluster.errors import UserError
from cluster.registry import fetch_model
from cluster.store import Store
from equimodels.checkpoint import load_model
from equimodels.models.graph import AtomGraph, states
from equimodels.models.neighbours import neighbour_pairs_of_many

Floats = NDArray[np.float64]


class Teacher:
    """A model on a device, without gradients of its parameters."""

    def __init__(self, reference: str, model: torch.nn.Module, device: str) -> None:
        self.reference = reference  # name@version
        self._model: Any = model.to(device).requires_grad_(False)
        self._device = device
        self._dtype = next(model.parameters()).dtype

    def require(self, what: str) -> None:
        """Raise UserError unless the model gives this: "embedding" or "prediction"."""
        able = hasattr(self._model, "features") if what == "embedding" else self._cutoff is not None
        if not able:
            raise UserError(f"model {self.reference} gives no {what}", allowed="one that was trained for it")

    def embed(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """pixels (B, C, H, W), as models see them. Returns (B, D)."""
        given = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device, self._dtype)
        with torch.no_grad():
            return _numpy(self._model.features(given).float())

    def energy_forces(
        self,
        numbers: NDArray[Any],
        positions: Floats,
        sizes: NDArray[np.int64],
        cells: Floats | None,
        pbc: NDArray[Any] | None,
        charges: Floats | None = None,
        spins: NDArray[np.int64] | None = None,
    ) -> tuple[Floats, Floats]:
        """numbers (N,), positions (N, 3), sizes (B,); cells (B, 3, 3) and pbc (B, 3). Returns (B,) and (N, 3).

        charges (B,), in elementary charges, and spins (B,), multiplicities: of a teacher that is told them; neutral
        singlets unless given. Raises ValueError for a multiplicity below 1.
        """
        starts = np.cumsum(sizes) - sizes
        owner = np.repeat(np.arange(len(sizes)), sizes)
        # Centred in float64 before they are cast, as an endpoint does: far from the origin float32 has no digits left.
        centred = positions - (np.add.reduceat(positions, starts, axis=0) / sizes[:, None])[owner]
        pairs = neighbour_pairs_of_many(centred, sizes, self._cutoff, cells, pbc)
        shifts = np.zeros((len(pairs.images), 3))
        if cells is not None:
            shifts = np.einsum("es,esx->ex", pairs.images, np.repeat(cells, pairs.edges_per_structure, axis=0))
        charges = np.zeros(len(sizes)) if charges is None else charges
        spins = np.ones(len(sizes), dtype=np.int64) if spins is None else spins
        at = torch.from_numpy(centred)
        graph = AtomGraph(
            numbers=torch.from_numpy(numbers.astype(np.int64)),
            positions=at,
            edges=torch.from_numpy(pairs.edges),
            shifts=torch.from_numpy(shifts),
            owner=torch.from_numpy(owner),
            structures=len(sizes),
            state=states(charges.tolist(), spins.tolist(), at),
        )
        with torch.no_grad():
            out = self._model(graph.to(self._device, self._dtype))
        return _numpy(out.energy.double()), _numpy(out.forces.double())

    @property
    def _cutoff(self) -> Any:
        return getattr(getattr(self._model, "config", None), "cutoff", None)


def load_teacher(store: Store, reference: str, device: str) -> Teacher:
    """The model called `reference` (name@version). Raises NotFoundError; StoreError for one that is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        fetch_model(store, reference, Path(folder))
        return Teacher(reference, load_model(Path(folder)), device)


def _numpy(values: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = values.cpu().numpy()
    return found
