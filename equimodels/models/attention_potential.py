"""An E(3)-equivariant interatomic potential with attention on the edges of a graph.

Shapes: N atoms, E directed edges, C channels, H heads, S species, n = (lmax + 1)^2 coefficients of real spherical
harmonics of natural parity. Lengths in angstrom, energies in eV. Sources: attention and gates as in Equiformer (Liao
and Smidt 2023, arXiv 2206.11990); messages are products with the harmonics of the edge, as in eSCN (Passaro and Zitnick
2023, arXiv 2302.03655), here evaluated on the sphere (`GauntConvolution`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equimodels.components import models
from equimodels.embeddings.cutoff import polynomial_cutoff
from equimodels.embeddings.radial import build_radial
from equimodels.errors import require
from equimodels.models.degree_linear import DegreeLinear
from equimodels.models.edge_attention import EdgeAttention
from equimodels.models.graph import AtomGraph
from equimodels.models.potential import Potential
from equimodels.models.radial_network import SILU_RMS, RadialNetwork
from equimodels.ops.gaunt_convolution import GauntConvolution
from equimodels.ops.spherical_harmonics import degree_of_each, harmonics_of_unit_vectors

FLOOR = 1e-4  # of the mean square: smooth at zero, and nothing beside features of size one


@dataclass(frozen=True, kw_only=True)
class AttentionPotentialConfig:
    """Settings of `AttentionPotential`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    lmax: int = 2  # largest degree of features and filters
    channels: int = 32  # C, a multiple of heads
    heads: int = 4  # H
    layers: int = 2  # rounds of message passing
    cutoff: float = 5.0  # angstrom; an atom sees as far as layers times this
    radial_hidden: int = 32  # width of the network of the distance
    readout_hidden: int = 32  # width of the readout
    charge_spin: bool = False  # whether energies depend on the charge and multiplicity of a structure
    repulsion: bool = False  # of nuclei at short range, so that simulations stay away from where no data was

    def __post_init__(self) -> None:
        require(0 <= self.lmax <= 6, "lmax", self.lmax, "0 to 6")
        require(self.channels >= 1, "channels", self.channels, "at least 1")
        require(
            self.heads >= 1 and self.channels % self.heads == 0, "heads", self.heads, f"a divisor of {self.channels}"
        )
        require(1 <= self.layers <= 8, "layers", self.layers, "1 to 8")
        require(0 < self.cutoff <= 20, "cutoff", self.cutoff, "above 0 and at most 20, in angstrom")
        require(self.radial_hidden >= 1, "radial_hidden", self.radial_hidden, "at least 1")
        require(self.readout_hidden >= 1, "readout_hidden", self.readout_hidden, "at least 1")


def normed(x: Tensor) -> Tensor:
    """x (N, C, n) over its root mean square of each atom, which is invariant: layers see features of one size.

    Without it those of preset L grew tenfold a layer, and training diverged. An atom of zeros keeps zeros.
    """
    return x * torch.rsqrt(x.square().mean(dim=(1, 2), keepdim=True) + FLOOR)


class GatedUpdate(nn.Module):
    """x + W2 gate(W1 x): each degree of a channel is multiplied by a number from 0 to 1 made of scalars."""

    spread: Tensor

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.degrees = lmax + 1
        self.first = DegreeLinear(lmax, channels, channels)
        self.gates = nn.Parameter(torch.randn(channels, channels * (lmax + 1)) / channels**0.5)
        self.second = DegreeLinear(lmax, channels, channels)
        self.register_buffer("spread", degree_of_each(lmax), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, n). Returns (N, C, n)."""
        sized = normed(x)
        hidden = self.first(sized)
        scalars = (sized[:, :, 0] @ self.gates).view(x.shape[0], x.shape[1], self.degrees)
        # Degree zero takes part in its own gate, as in s sigmoid(s) = silu(s).
        inner = torch.cat([scalars[:, :, :1] + hidden[:, :, :1], scalars[:, :, 1:]], dim=2)
        gate = torch.sigmoid(inner).index_select(2, self.spread)
        updated: Tensor = x + self.second(hidden * gate / SILU_RMS)
        return updated


class AttentionLayer(nn.Module):
    """One layer: messages weighted by attention, then a gated update of each atom."""

    def __init__(self, config: AttentionPotentialConfig, lmax_in: int, lmax_out: int) -> None:
        super().__init__()
        channels = config.channels
        self.width = channels // config.heads
        self.attend = EdgeAttention(lmax_in, channels, config.heads)
        self.send = DegreeLinear(lmax_in, channels, channels)
        self.convolve = GauntConvolution(lmax_in, config.lmax, lmax_out)
        self.receive = DegreeLinear(lmax_out, channels, channels)
        self.keep = DegreeLinear(min(lmax_in, lmax_out), channels, channels)
        self.kept = (min(lmax_in, lmax_out) + 1) ** 2
        self.added = (lmax_out + 1) ** 2 - self.kept  # coefficients the output has more than the input
        self.update = GatedUpdate(lmax_out, channels)

    def forward(
        self, features: Tensor, radial: Tensor, bias: Tensor, envelope: Tensor, harmonics: Tensor, edges: Tensor
    ) -> Tensor:
        """features (N, C, n_in); radial (E, C, lmax + 1); bias (E, H); envelope (E,). Returns (N, C, n_out)."""
        seen = normed(features)
        attention = self.attend(seen, bias, envelope, harmonics, edges).repeat_interleave(self.width, dim=1)
        messages = self.convolve(self.send(seen), radial * attention[:, :, None], harmonics, edges[0], edges[1])
        kept = F.pad(self.keep(features[:, :, : self.kept]), (0, self.added))
        updated: Tensor = self.update(kept + self.receive(messages))
        return updated


@models.register("attention_potential", config=AttentionPotentialConfig)
class AttentionPotential(Potential):
    """A potential with attention; see the module for symbols and sources.

    `embedding` names the radial basis (see `build_radial`); `facts` are those of `gather_facts`. Raises SettingError
    and UnknownComponentError.
    """

    def __init__(
        self, config: AttentionPotentialConfig, *, embedding: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> None:
        super().__init__(config, facts)
        channels, last = config.channels, config.layers - 1
        self.per_layer = channels * (config.lmax + 1) + config.heads
        basis = build_radial(embedding, cutoff=config.cutoff)
        self.radial = RadialNetwork(basis, config.cutoff, config.radial_hidden, config.layers * self.per_layer)
        self.embed = nn.Parameter(torch.randn(len(self.species), channels))
        self.layers = nn.ModuleList(
            AttentionLayer(config, config.lmax if t else 0, 0 if t == last else config.lmax)
            for t in range(config.layers)
        )
        self.readout_hidden = nn.Parameter(torch.randn(channels, config.readout_hidden) / channels**0.5)
        self.readout_last = nn.Parameter(torch.zeros(config.readout_hidden))

    def atomic_energies(self, graph: AtomGraph, kind: Tensor, positions: Tensor) -> Tensor:
        """(N,) energies in units of `scale`, without references; kind (N,) is the species index, positions (N, 3)."""
        config, edges = self.config, graph.edges.shape[1]
        vectors, distance = self.edge_vectors(graph, positions)
        harmonics = harmonics_of_unit_vectors(config.lmax, vectors / distance[:, None])
        envelope = polynomial_cutoff(distance, config.cutoff)
        features = self.embedded(graph, kind)[:, :, None]
        weights = self.radial(distance).view(edges, config.layers, self.per_layer)
        for layer, weight in zip(self.layers, weights.unbind(1), strict=True):
            # Attention takes a mean over neighbours: times the root of their number, it keeps unit variance.
            radial = weight[:, config.heads :].reshape(edges, config.channels, config.lmax + 1) * self.neighbours**0.5
            features = layer(features, radial, weight[:, : config.heads], envelope, harmonics, graph.edges)
        return F.silu(normed(features)[:, :, 0] @ self.readout_hidden) @ self.readout_last
