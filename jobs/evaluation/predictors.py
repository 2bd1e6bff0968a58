"""What can be evaluated: a potential that predicts energies and forces, a representation that embeds images."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.evaluation.frames import Floats, Lattice, Prediction, State


class Predictor(Protocol):
    """A model of the registry run here, or an endpoint over HTTP. A model answers only what it was trained for."""

    @property
    def name(self) -> str:
        """What answers, for people: "ethanol@1", or the same at an address."""
        ...

    @property
    def model(self) -> str:
        """name@version of the model that answers."""
        ...

    def energy_forces(
        self,
        numbers: Sequence[NDArray[Any]],
        positions: Sequence[Floats],
        lattices: Sequence[Lattice] | None = None,
        states: Sequence[State] | None = None,
    ) -> Prediction:
        """numbers: B times (n,); positions: B times (n, 3) angstrom; lattices: B, of periodic structures.

        states: B, for models that are told charge and spin; neutral singlets unless given.
        """
        ...

    def embed(self, pixels: NDArray[np.float32]) -> Floats:
        """pixels: (B, C, H, W). Returns (B, D)."""
        ...
