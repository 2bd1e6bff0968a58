"""Chebyshev radial basis. Shapes: E edges, N basis functions. Distances and cutoffs in angstrom."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from equimodels.components import radial_bases
from equimodels.embeddings.cutoff import polynomial_cutoff
from equimodels.embeddings.radial import check_radial, effective_cutoff


@dataclass(frozen=True, kw_only=True)
class ChebyshevConfig:
    """Settings of `Chebyshev`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    number: int = 8  # N, basis functions
    cutoff: float | None = None  # r_c, angstrom; None: that of the model

    def __post_init__(self) -> None:
        check_radial(self.number, self.cutoff)


@radial_bases.register("chebyshev", config=ChebyshevConfig)
class Chebyshev(nn.Module):
    """Chebyshev polynomials of the first kind, T_0..T_{N-1}, of 1 - 2 r / r_c on [0, r_c], times the smooth cutoff.

    The linear-scaling case of the basis of Drautz 2019 (ACE), eq. 24.
    """

    def __init__(self, config: ChebyshevConfig, *, cutoff: float) -> None:
        super().__init__()
        self.number, self.cutoff = config.number, effective_cutoff(config.cutoff, cutoff)

    def forward(self, distance: Tensor) -> Tensor:
        """distance: (E,) angstrom. Returns (E, N), dimensionless, within [-1, 1]."""
        # Clamped: beyond the cutoff T_n grows like a power, and the zero of the envelope could not hold an infinity.
        t = 1 - 2 * (distance / self.cutoff).clamp(max=1.0)
        values = [torch.ones_like(t), t]
        while len(values) < self.number:
            values.append(2 * t * values[-1] - values[-2])
        basis = torch.stack(values[: self.number], dim=-1)
        return basis * polynomial_cutoff(distance, self.cutoff)[:, None]
