"""Radial Bessel basis. Shapes: E edges, N basis functions. Distances and cutoffs in angstrom."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from equimodels.components import radial_bases
from equimodels.embeddings.cutoff import polynomial_cutoff
from equimodels.embeddings.radial import check_radial, effective_cutoff


@dataclass(frozen=True, kw_only=True)
class BesselConfig:
    """Settings of `Bessel`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    number: int = 8  # N, basis functions
    cutoff: float | None = None  # r_c, angstrom; None: that of the model
    trainable: bool = False  # optimise the wave numbers

    def __post_init__(self) -> None:
        check_radial(self.number, self.cutoff)


@radial_bases.register("bessel", config=BesselConfig)
class Bessel(nn.Module):
    """Spherical Bessel functions of order zero, j_0(n pi r / r_c), normalised on [0, r_c], times the smooth cutoff.

    Gasteiger, Gross and Guennemann 2020 (DimeNet), eq. 7.
    """

    wave_number: Tensor

    def __init__(self, config: BesselConfig, *, cutoff: float) -> None:
        super().__init__()
        self.number, self.cutoff = config.number, effective_cutoff(config.cutoff, cutoff)
        # In units of pi / r_c: 1, 2, ..., exact in every dtype.
        wave_number = torch.arange(1, config.number + 1).to(torch.get_default_dtype())
        if config.trainable:
            self.wave_number = nn.Parameter(wave_number)
        else:
            self.register_buffer("wave_number", wave_number, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """distance: (E,) angstrom, > 0. Returns (E, N), dimensionless up to the norm, sqrt(2 / r_c)."""
        phase = (distance * (math.pi / self.cutoff))[:, None] * self.wave_number
        envelope = polynomial_cutoff(distance, self.cutoff) * (math.sqrt(2 / self.cutoff) / distance)
        return torch.sin(phase) * envelope[:, None]
