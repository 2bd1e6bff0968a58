"""An interatomic potential that sees distances only: the small and fast one.

Shapes: N atoms, E directed edges, C channels, S species. Lengths in angstrom, energies in eV. Source: continuous-filter
convolutions, Schuett et al. 2017 (SchNet, arXiv 1706.08566), without biases, so that what vanishes stays zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equimodels.components import models
from equimodels.embeddings.radial import build_radial
from equimodels.errors import require
from equimodels.models.graph import AtomGraph
from equimodels.models.potential import Potential
from equimodels.models.radial_network import SILU_RMS, RadialNetwork


@dataclass(frozen=True, kw_only=True)
class InvariantPotentialConfig:
    """Settings of `InvariantPotential`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    channels: int = 64  # C
    layers: int = 3  # rounds of message passing
    cutoff: float = 5.0  # angstrom; an atom sees as far as layers times this
    radial_hidden: int = 32  # width of the network of the distance
    readout_hidden: int = 32  # width of the readout
    charge_spin: bool = False  # whether energies depend on the charge and multiplicity of a structure
    repulsion: bool = False  # of nuclei at short range, so that simulations stay away from where no data was

    def __post_init__(self) -> None:
        require(self.channels >= 1, "channels", self.channels, "at least 1")
        require(1 <= self.layers <= 8, "layers", self.layers, "1 to 8")
        require(0 < self.cutoff <= 20, "cutoff", self.cutoff, "above 0 and at most 20, in angstrom")
        require(self.radial_hidden >= 1, "radial_hidden", self.radial_hidden, "at least 1")
        require(self.readout_hidden >= 1, "readout_hidden", self.readout_hidden, "at least 1")


class FilterInteraction(nn.Module):
    """One layer: x_i + f(x_i, sum over edges j -> i of x_j * w_ij), f a network of one hidden layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.send = nn.Parameter(torch.randn(channels, channels) / channels**0.5)
        self.own = nn.Parameter(torch.randn(channels, channels) / (2 * channels) ** 0.5)
        self.received = nn.Parameter(torch.randn(channels, channels) / (2 * channels) ** 0.5)
        self.update = nn.Parameter(torch.randn(channels, channels) / (SILU_RMS * channels**0.5))

    def forward(self, features: Tensor, filters: Tensor, edges: Tensor) -> Tensor:
        """features (N, C); filters (E, C); edges (2, E). Returns (N, C)."""
        sent = (features @ self.send).index_select(0, edges[0]) * filters
        messages = torch.zeros_like(features).index_add(0, edges[1], sent)
        return features + F.silu(features @ self.own + messages @ self.received) @ self.update


@models.register("invariant_potential", config=InvariantPotentialConfig)
class InvariantPotential(Potential):
    """A potential of distances alone; see the module for symbols and sources.

    It cannot tell structures apart in which every atom has the same distances around it, layer by layer (Pozdnyakov and
    Ceriotti 2022): a baseline, and a teacher's or a screen's choice. `embedding` names the radial basis (see
    `build_radial`); `facts` are those of `gather_facts`. Raises SettingError and UnknownComponentError.
    """

    def __init__(
        self, config: InvariantPotentialConfig, *, embedding: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> None:
        super().__init__(config, facts)
        channels, basis = config.channels, build_radial(embedding, cutoff=config.cutoff)
        self.radial = RadialNetwork(basis, config.cutoff, config.radial_hidden, config.layers * channels)
        self.embed = nn.Parameter(torch.randn(len(self.species), channels))
        self.layers = nn.ModuleList(FilterInteraction(channels) for _ in range(config.layers))
        self.readout_hidden = nn.Parameter(torch.randn(channels, config.readout_hidden) / channels**0.5)
        self.readout_last = nn.Parameter(torch.zeros(config.readout_hidden))

    def atomic_energies(self, graph: AtomGraph, kind: Tensor, positions: Tensor) -> Tensor:
        """(N,) energies in units of `scale`, without references; kind (N,) is the species index, positions (N, 3)."""
        _, distance = self.edge_vectors(graph, positions)
        filters = (self.radial(distance) * self.neighbours**-0.5).view(
            distance.shape[0], len(self.layers), self.config.channels
        )
        features = self.embedded(graph, kind)
        for layer, weights in zip(self.layers, filters.unbind(1), strict=True):
            features = layer(features, weights, graph.edges)
        # Every layer adds one unit of variance.
        hidden = F.silu(features @ self.readout_hidden * (len(self.layers) + 1) ** -0.5)
        return hidden @ self.readout_last
