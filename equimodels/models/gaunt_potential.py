"""An E(3)-equivariant interatomic potential whose products are Gaunt products.

Shapes: N atoms, E directed edges, B structures, C channels, S species, n = (lmax + 1)^2 coefficients of real spherical
harmonics of natural parity (degree l changes sign as (-1)^l under inversion), so that reflections are exact too.
Lengths in angstrom, energies in eV. Sources: message passing with many-body products as in MACE (Batatia et al. 2022),
Gaunt products (Luo et al. 2024, arXiv 2401.10216) by quadrature on the sphere.
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
from equimodels.models.antisymmetric import AntisymmetricBlock
from equimodels.models.degree_linear import DegreeLinear
from equimodels.models.graph import AtomGraph
from equimodels.models.potential import EnergyForces, Potential
from equimodels.models.products import Products, Quadrature
from equimodels.models.radial_network import RadialNetwork
from equimodels.ops.spherical_harmonics import harmonics_of_unit_vectors

__all__ = ["EnergyForces", "GauntPotential", "GauntPotentialConfig", "Interaction"]


@dataclass(frozen=True, kw_only=True)
class GauntPotentialConfig:
    """Settings of `GauntPotential`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    lmax: int = 2  # largest degree of features and filters
    lmax_between: int | None = None  # largest degree of what layers hand on, at most lmax; None: lmax
    channels: int = 32  # C
    layers: int = 2  # rounds of message passing
    cutoff: float = 5.0  # angstrom; an atom sees as far as layers times this
    many_body_order: int = 3  # highest power of the messages of an atom; body order of a layer less one
    antisymmetric: bool = False  # products with paths of odd degree beside the powers
    radial_hidden: int = 32  # width of the network of the distance
    readout_hidden: int = 16  # width of the last readout
    charge_spin: bool = False  # whether energies depend on the charge and multiplicity of a structure
    repulsion: bool = False  # of nuclei at short range, so that simulations stay away from where no data was

    def __post_init__(self) -> None:
        require(0 <= self.lmax <= 6, "lmax", self.lmax, "0 to 6")
        between = self.lmax_between
        require(between is None or 0 <= between <= self.lmax, "lmax_between", between, f"0 to lmax, {self.lmax}")
        require(self.channels >= 1, "channels", self.channels, "at least 1")
        require(1 <= self.layers <= 8, "layers", self.layers, "1 to 8")
        require(0 < self.cutoff <= 20, "cutoff", self.cutoff, "above 0 and at most 20, in angstrom")
        require(1 <= self.many_body_order <= 4, "many_body_order", self.many_body_order, "1 to 4")
        require(not (self.antisymmetric and self.lmax < 1), "antisymmetric", True, "false where lmax is 0")
        require(self.radial_hidden >= 1, "radial_hidden", self.radial_hidden, "at least 1")
        require(self.readout_hidden >= 1, "readout_hidden", self.readout_hidden, "at least 1")


class Interaction(nn.Module):
    """One layer: messages from the neighbours, their powers, and a residual."""

    def __init__(
        self, config: GauntPotentialConfig, lmax_in: int, lmax_out: int, species: int, products: Products
    ) -> None:
        super().__init__()
        channels, order = config.channels, config.many_body_order
        self.added = (lmax_out + 1) ** 2 - (lmax_in + 1) ** 2  # coefficients the output has more than the input
        self.send = DegreeLinear(lmax_in, channels, channels)
        self.convolve = products.convolution(lmax_in, config.lmax, config.lmax)
        self.receive = DegreeLinear(config.lmax, channels, channels)
        self.power = products.power(config.lmax, lmax_out, order)
        # (2k - 1)!! is the mean of a standard normal variable to the power 2k: every power starts with equal weight.
        moments = torch.cumprod(2.0 * torch.arange(1, order + 1) - 1, 0)
        self.power_weight = nn.Parameter(torch.randn(species, channels, order) / (order * moments).sqrt())
        self.update = DegreeLinear(lmax_out, channels, channels)
        self.antisymmetric = (
            AntisymmetricBlock(config.lmax, lmax_out, channels, products) if config.antisymmetric else None
        )
        self.keep = DegreeLinear(min(lmax_in, lmax_out), channels, channels)
        self.kept = (min(lmax_in, lmax_out) + 1) ** 2

    def forward(self, features: Tensor, kind: Tensor, radial: Tensor, harmonics: Tensor, edges: Tensor) -> Tensor:
        """features (N, C, n_in); kind (N,) species index; radial (E, C, lmax + 1). Returns (N, C, n_out)."""
        messages = self.convolve(self.send(features), radial, harmonics, edges[0], edges[1])
        received = self.receive(messages)
        powers = self.power(received, self.power_weight.index_select(0, kind))
        kept = self.keep(features[:, :, : self.kept])
        if self.added > 0:
            kept = F.pad(kept, (0, self.added))
        updated: Tensor = self.update(powers) + kept
        return updated if self.antisymmetric is None else updated + self.antisymmetric(received)


@models.register("gaunt_potential", config=GauntPotentialConfig)
class GauntPotential(Potential):
    """A potential of Gaunt products; see the module for symbols and sources.

    The energy of an atom is the sum of a readout of its invariants after every layer. `embedding` names the radial
    basis (see `build_radial`); `facts` are those of `gather_facts`; `products` makes the products, Gaunt products by
    exact quadrature unless given. Raises SettingError and UnknownComponentError.
    """

    def __init__(
        self,
        config: GauntPotentialConfig,
        *,
        embedding: Mapping[str, Any],
        facts: Mapping[str, Any],
        products: Products | None = None,
    ) -> None:
        super().__init__(config, facts)
        products = Quadrature() if products is None else products
        species = self.species
        channels, last = config.channels, config.layers - 1
        basis = build_radial(embedding, cutoff=config.cutoff)
        self.radial = RadialNetwork(
            basis, config.cutoff, config.radial_hidden, config.layers * channels * (config.lmax + 1)
        )
        self.embed = nn.Parameter(torch.randn(len(species), channels))
        between = config.lmax if config.lmax_between is None else config.lmax_between
        self.layers = nn.ModuleList(
            Interaction(config, between if t else 0, 0 if t == last else between, len(species), products)
            for t in range(config.layers)
        )
        self.readout_linear = nn.Parameter(torch.randn(last, channels) / channels**0.5)
        self.readout_hidden = nn.Parameter(torch.randn(channels, config.readout_hidden) / channels**0.5)
        self.readout_last = nn.Parameter(torch.zeros(config.readout_hidden))

    def atomic_energies(self, graph: AtomGraph, kind: Tensor, positions: Tensor) -> Tensor:
        """(N,) energies in units of `scale`, without references; kind (N,) is the species index, positions (N, 3)."""
        config = self.config
        vectors, distance = self.edge_vectors(graph, positions)
        harmonics = harmonics_of_unit_vectors(config.lmax, vectors / distance[:, None])
        # Messages are sums over neighbours: divided by the root of their number, they keep unit variance.
        radial = self.radial(distance) * self.neighbours**-0.5
        radials = radial.view(distance.shape[0], config.layers, config.channels, config.lmax + 1).unbind(1)
        features = self.embedded(graph, kind)[:, :, None]
        energies = []
        for layer, weights in zip(self.layers, radials, strict=True):
            features = layer(features, kind, weights, harmonics, graph.edges)
            energies.append(features[:, :, 0])
        linear = [scalars @ readout for scalars, readout in zip(energies[:-1], self.readout_linear, strict=True)]
        return sum(linear, F.silu(energies[-1] @ self.readout_hidden) @ self.readout_last)
