"""A model of the registry, run in this process."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.errors import UserError
from cluster.registry import fetch_model, resolve
from cluster.store import Store
from equimodels.checkpoint import load_model
from equimodels.models.graph import AtomGraph, Structure
from jobs.evaluation.frames import Floats, Lattice, Prediction, State


class LocalModel:
    """Behind the `Predictor` protocol. Positions are centred in float64 before they are cast, as an endpoint does."""

    def __init__(self, name: str, model: torch.nn.Module) -> None:
        self._name, self._model = name, model
        self._dtype = next(model.parameters()).dtype

    @property
    def name(self) -> str:
        """name@version."""
        return self._name

    @property
    def model(self) -> str:
        """name@version."""
        return self._name

    def energy_forces(
        self,
        numbers: Sequence[NDArray[Any]],
        positions: Sequence[Floats],
        lattices: Sequence[Lattice] | None = None,
        states: Sequence[State] | None = None,
    ) -> Prediction:
        """numbers: B times (n,); positions: B times (n, 3) angstrom; lattices: B, of periodic structures.

        states: B, for a model that is told charge and spin; neutral singlets unless given. Raises UserError for a model
        of another task, ValueError for a multiplicity below 1.
        """
        config: Any = getattr(self._model, "config", None)
        if not hasattr(config, "cutoff"):
            raise UserError(f"model {self._name} does not predict energies and forces")
        cells: list[dict[str, Any]] = (
            [{}] * len(numbers) if lattices is None else [{"cell": cell, "pbc": pbc} for cell, pbc in lattices]
        )
        structures = [
            Structure.of(z, r - r.mean(axis=0), config.cutoff, **cell)
            for z, r, cell in zip(numbers, positions, cells, strict=True)
        ]
        if states is not None:
            told = zip(structures, states, strict=True)
            structures = [replace(structure, charge=charge, spin=spin) for structure, (charge, spin) in told]
        with torch.no_grad():
            out = self._model(AtomGraph.collate(structures).to(dtype=self._dtype))
        forces = out.forces.double().numpy()
        return Prediction(out.energy.double().numpy(), np.split(forces, np.cumsum([len(z) for z in numbers])[:-1]))

    def embed(self, pixels: NDArray[np.float32]) -> Floats:
        """pixels: (B, C, H, W). Returns (B, D) pooled features. Raises UserError for a model of another task."""
        features: Any = getattr(self._model, "features", None)
        if features is None:
            raise UserError(f"model {self._name} does not embed images")
        with torch.no_grad():
            embedded: Floats = features(torch.from_numpy(np.ascontiguousarray(pixels)).to(self._dtype)).double().numpy()
        return embedded


def local_model(store: Store, reference: str, folder: Path) -> LocalModel:
    """The model called `reference`, fetched into `folder`. Raises NotFoundError."""
    resolved = resolve(store, reference)
    fetch_model(store, reference, folder)
    return LocalModel(str(resolved), load_model(folder))
