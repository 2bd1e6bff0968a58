"""The loss of an interatomic potential: energies an atom, and forces.

Shapes: B structures, N atoms of all structures. Energies in eV, lengths in angstrom.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from equimodels.components import objectives
from equimodels.errors import require
from equimodels.models.graph import AtomGraph


class LabelledGraph(NamedTuple):
    """A graph with its labels: energy (B,) float64, eV; forces (N, 3), eV/angstrom."""

    graph: AtomGraph
    energy: Tensor
    forces: Tensor

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move everything to `device`; cast positions and forces to `dtype`. The energies stay float64."""
        forces = self.forces.to(device=device, dtype=dtype)
        return self._replace(graph=self.graph.to(device, dtype), energy=self.energy.to(device), forces=forces)


class Prediction(Protocol):
    """What a potential returns: `EnergyForces`."""

    @property
    def energy(self) -> Tensor:
        """(B,) float64, eV."""
        ...

    @property
    def forces(self) -> Tensor:
        """(N, 3), eV/angstrom."""
        ...


@dataclass(frozen=True, kw_only=True)
class EnergyForceConfig:
    """Settings of `EnergyForce`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    energy_weight: float = 1.0  # of the squared error of the energy an atom, 1 / eV^2
    force_weight: float = 100.0  # of the squared error of a force component, angstrom^2 / eV^2

    def __post_init__(self) -> None:
        require(self.energy_weight >= 0, "energy_weight", self.energy_weight, "at least 0")
        require(self.force_weight >= 0, "force_weight", self.force_weight, "at least 0")
        require(
            self.energy_weight + self.force_weight > 0,
            "force_weight",
            self.force_weight,
            "above 0 if energy_weight is 0",
        )


@objectives.register("energy_force", config=EnergyForceConfig)
class EnergyForce:
    """loss = w_E mean_b ((E_b - E*_b) / n_b)^2 + w_F mean_{i, x} (F_ix - F*_ix)^2

    with * for labels, b over structures of n_b atoms, i over the atoms of the batch and x over the three directions.
    Metrics are tensors (sum, count), float64, so that workers can add theirs; the value is sum / count.
    """

    samples: ClassVar[str] = "structures"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "energy_mae_per_atom", "force_mae", "force_mean_abs")

    def __init__(self, config: EnergyForceConfig, facts: Mapping[str, Any] | None = None) -> None:
        self.config = config  # the facts of the model are other objectives' need

    def __call__(
        self, forward: Callable[[AtomGraph], Prediction], batch: LabelledGraph, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar in the dtype of the forces, and the metrics of the batch, without gradient.

        forward: the model or an engine around it, in training mode. generator: not used, there is nothing random.
        """
        predicted = forward(batch.graph)
        sizes = torch.bincount(batch.graph.owner, minlength=batch.graph.structures)
        # The difference in float64, where total energies of 10^4 eV still resolve meV; only then the lower precision.
        energy_error = (predicted.energy - batch.energy) / sizes
        force_error = predicted.forces - batch.forces.to(predicted.forces.dtype)
        energy_loss = energy_error.to(force_error.dtype).square().mean()
        loss = self.config.energy_weight * energy_loss + self.config.force_weight * force_error.square().mean()
        return loss, _metrics(loss, energy_error, force_error, batch.forces)

    def evaluate(
        self, forward: Callable[[AtomGraph], Prediction], batch: LabelledGraph, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The metrics of the batch. In eval mode, which the caller sets, the model keeps no graph."""
        with torch.no_grad():
            return self(forward, batch, generator)[1]


def _metrics(loss: Tensor, energy_error: Tensor, force_error: Tensor, forces: Tensor) -> dict[str, Tensor]:
    structures, components = energy_error.numel(), force_error.numel()

    def pair(total: Tensor, count: int) -> Tensor:
        total = total.detach().to(torch.float64)
        return torch.stack([total, torch.full_like(total, count)])

    return {
        "loss": pair(loss * structures, structures),
        "energy_mae_per_atom": pair(energy_error.abs().sum(), structures),
        "force_mae": pair(force_error.abs().sum(), components),
        "force_mean_abs": pair(forces.abs().sum(), components),
    }
