"""Gaussian radial basis. Shapes: E edges, N basis functions. Distances and cutoffs in angstrom."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from equimodels.components import radial_bases
from equimodels.embeddings.cutoff import polynomial_cutoff
from equimodels.embeddings.radial import check_radial, effective_cutoff
from equimodels.errors import require


@dataclass(frozen=True, kw_only=True)
class GaussianConfig:
    """Settings of `Gaussian`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    number: int = 16  # N, basis functions
    cutoff: float | None = None  # angstrom; None: that of the model
    width: float = 1.0  # standard deviation, in units of the distance between centres
    trainable: bool = False  # optimise the centres

    def __post_init__(self) -> None:
        check_radial(self.number, self.cutoff)
        require(self.width > 0, "width", self.width, "positive")


@radial_bases.register("gaussian", config=GaussianConfig)
class Gaussian(nn.Module):
    """exp(-(r - mu_n)^2 / (2 sigma^2)) with N centres uniform on [0, cutoff], times the smooth cutoff.

    Schuett et al. 2017 (SchNet), eq. 3, with the width tied to the distance between the centres.
    """

    centre: Tensor

    def __init__(self, config: GaussianConfig, *, cutoff: float) -> None:
        super().__init__()
        self.number, self.cutoff = config.number, effective_cutoff(config.cutoff, cutoff)
        # In units of the spacing: 0, 1, ..., N - 1, exact in every dtype.
        centre = torch.arange(config.number).to(torch.get_default_dtype())
        self.spacing = self.cutoff / max(config.number - 1, 1)
        self.width = config.width
        if config.trainable:
            self.centre = nn.Parameter(centre)
        else:
            self.register_buffer("centre", centre, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """distance: (E,) angstrom. Returns (E, N), dimensionless."""
        offset = ((distance / self.spacing)[:, None] - self.centre) / self.width
        return torch.exp(-0.5 * offset * offset) * polynomial_cutoff(distance, self.cutoff)[:, None]
