"""An E(3)-equivariant interatomic potential whose products are Gaunt products.

Shapes: N atoms, E directed edges, B structures, C channels, S species, n = (lmax + 1)^2 coefficients of real spherical
harmonics of natural parity (degree l changes sign as (-1)^l under inversion), so that reflections are exact too.
Lengths in angstrom, energies in eV. Sources: message passing with many-body products as in MACE (Batatia et al. 2022),
Gaunt products (Luo et al. 2024, arXiv 2401.10216) by quadrature on the sphere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equimodels.components import models
from equimodels.embeddings.radial import build_radial
from equimodels.errors import SettingError, require
from equimodels.models.atomic_facts import LabelledStructure, atomic_facts
from equimodels.models.degree_linear import DegreeLinear
from equimodels.models.graph import AtomGraph
from equimodels.models.products import Products, Quadrature
from equimodels.models.radial_network import RadialNetwork
from equimodels.ops.exact import ExactTables
from equimodels.ops.spherical_harmonics import harmonics_of_unit_vectors

ELEMENTS = 119  # atomic numbers below this


class EnergyForces(NamedTuple):
    """energy (B,) float64, eV; forces (N, 3) in the dtype of the model, eV/angstrom, or (0, 3) where not asked for."""

    energy: Tensor
    forces: Tensor


@dataclass(frozen=True, kw_only=True)
class GauntPotentialConfig:
    """Settings of `GauntPotential`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    lmax: int = 2  # largest degree of features and filters
    channels: int = 32  # C
    layers: int = 2  # rounds of message passing
    cutoff: float = 5.0  # angstrom; an atom sees as far as layers times this
    many_body_order: int = 3  # highest power of the messages of an atom; body order of a layer less one
    radial_hidden: int = 32  # width of the network of the distance
    readout_hidden: int = 16  # width of the last readout

    def __post_init__(self) -> None:
        require(0 <= self.lmax <= 6, "lmax", self.lmax, "0 to 6")
        require(self.channels >= 1, "channels", self.channels, "at least 1")
        require(1 <= self.layers <= 8, "layers", self.layers, "1 to 8")
        require(0 < self.cutoff <= 20, "cutoff", self.cutoff, "above 0 and at most 20, in angstrom")
        require(1 <= self.many_body_order <= 4, "many_body_order", self.many_body_order, "1 to 4")
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
        self.keep = DegreeLinear(min(lmax_in, lmax_out), channels, channels)
        self.kept = (min(lmax_in, lmax_out) + 1) ** 2

    def forward(self, features: Tensor, kind: Tensor, radial: Tensor, harmonics: Tensor, edges: Tensor) -> Tensor:
        """features (N, C, n_in); kind (N,) species index; radial (E, C, lmax + 1). Returns (N, C, n_out)."""
        messages = self.convolve(self.send(features), radial, harmonics, edges[0], edges[1])
        powers = self.power(self.receive(messages), self.power_weight.index_select(0, kind))
        kept = self.keep(features[:, :, : self.kept])
        if self.added > 0:
            kept = F.pad(kept, (0, self.added))
        updated: Tensor = self.update(powers) + kept
        return updated


@models.register("gaunt_potential", config=GauntPotentialConfig)
class GauntPotential(ExactTables):
    """Energies and conservative forces of structures; see the module for symbols and sources.

    energy = sum over atoms of reference[species] + scale * (a readout of the invariants after every layer), the
    reference and the sum in float64; forces = -d energy / d positions. The scale is the root mean square force of the
    training set times 1 angstrom.

    `embedding` names the radial basis (see `build_radial`); `facts` are those of `gather_facts`; `products` makes the
    products, Gaunt products by exact quadrature unless given. Raises SettingError and UnknownComponentError.
    """

    conservative: ClassVar[bool] = True  # forces are a gradient taken in `forward`: a loss on them needs a second one
    species_index: Tensor
    reference: Tensor

    def __init__(
        self,
        config: GauntPotentialConfig,
        *,
        embedding: Mapping[str, Any],
        facts: Mapping[str, Any],
        products: Products | None = None,
    ) -> None:
        super().__init__()
        products = Quadrature() if products is None else products
        self.config = config
        species, reference, self.scale, self.neighbours = _read(facts)
        index = torch.full((ELEMENTS,), -1)
        index[torch.tensor(species)] = torch.arange(len(species))
        self.register_buffer("species_index", index, persistent=False)
        self.add_table("reference", torch.tensor(reference, dtype=torch.float64), rounded=False)

        channels, last = config.channels, config.layers - 1
        basis = build_radial(embedding, cutoff=config.cutoff)
        self.radial = RadialNetwork(
            basis, config.cutoff, config.radial_hidden, config.layers * channels * (config.lmax + 1)
        )
        self.embed = nn.Parameter(torch.randn(len(species), channels))
        self.layers = nn.ModuleList(
            Interaction(config, config.lmax if t else 0, 0 if t == last else config.lmax, len(species), products)
            for t in range(config.layers)
        )
        self.readout_linear = nn.Parameter(torch.randn(last, channels) / channels**0.5)
        self.readout_hidden = nn.Parameter(torch.randn(channels, config.readout_hidden) / channels**0.5)
        self.readout_last = nn.Parameter(torch.zeros(config.readout_hidden))

    @classmethod
    def build(cls, config: GauntPotentialConfig, embedding: Mapping[str, Any], facts: Mapping[str, Any]) -> Self:
        """The potential with fresh weights. Raises SettingError and UnknownComponentError."""
        return cls(config, embedding=embedding, facts=facts)

    @classmethod
    def gather_facts(cls, config: GauntPotentialConfig, samples: Iterable[LabelledStructure]) -> dict[str, Any]:
        """Facts of training structures, (numbers, positions, energy, forces) each: see `atomic_facts`."""
        return atomic_facts(samples, config.cutoff)

    def forward(self, graph: AtomGraph, with_forces: bool = True) -> EnergyForces:
        """Energies (B,) and forces (N, 3) of a graph whose edges reach to the cutoff (longer ones change nothing).

        In training mode the forces can be differentiated again, by the parameters and, where `graph.positions` requires
        a gradient, by the positions. In eval mode both results are detached. Works under `no_grad` and
        `inference_mode`. Without forces, they are (0, 3). Raises SettingError for an unknown element.
        """
        if not with_forces:
            kind, positions = self._kind(graph.numbers), graph.positions.to(self.embed.dtype)
            return EnergyForces(self._total(graph, kind, self.atomic_energies(graph, kind, positions)), positions[:0])
        with torch.inference_mode(False), torch.enable_grad():
            graph = graph.usable_by_autograd()
            kind = self._kind(graph.numbers)
            positions = graph.positions.to(self.embed.dtype)
            if not positions.requires_grad:
                positions = positions.detach().requires_grad_()
            scaled = self.atomic_energies(graph, kind, positions)
            (gradient,) = torch.autograd.grad(scaled.sum(), positions, create_graph=self.training)
            energy = self._total(graph, kind, scaled if self.training else scaled.detach())
            return EnergyForces(energy, gradient * -self.scale)

    def atomic_energies(self, graph: AtomGraph, kind: Tensor, positions: Tensor) -> Tensor:
        """(N,) energies in units of `scale`, without references; kind (N,) is the species index, positions (N, 3)."""
        config = self.config
        sender, receiver = graph.edges
        vectors = positions.index_select(0, receiver) - positions.index_select(0, sender) + graph.shifts.to(positions)
        distance = torch.linalg.vector_norm(vectors, dim=1)
        harmonics = harmonics_of_unit_vectors(config.lmax, vectors / distance[:, None])
        # Messages are sums over neighbours: divided by the root of their number, they keep unit variance.
        radial = self.radial(distance) * self.neighbours**-0.5
        radials = radial.view(len(distance), config.layers, config.channels, config.lmax + 1).unbind(1)
        features = self.embed.index_select(0, kind)[:, :, None]
        energies = []
        for layer, weights in zip(self.layers, radials, strict=True):
            features = layer(features, kind, weights, harmonics, graph.edges)
            energies.append(features[:, :, 0])
        linear = [scalars @ readout for scalars, readout in zip(energies[:-1], self.readout_linear, strict=True)]
        return sum(linear, F.silu(energies[-1] @ self.readout_hidden) @ self.readout_last)

    def _total(self, graph: AtomGraph, kind: Tensor, scaled: Tensor) -> Tensor:
        """(B,) float64: references and sums never see a lower precision."""
        atoms = scaled.to(torch.float64) * self.scale + self.reference.index_select(0, kind)
        return atoms.new_zeros(graph.structures).index_add(0, graph.owner, atoms)

    def _kind(self, numbers: Tensor) -> Tensor:
        """(N,) index of each atom among the species of the model."""
        inside = numbers.clamp(0, ELEMENTS - 1)
        kind = self.species_index.index_select(0, inside)
        unknown = (kind < 0) | (inside != numbers)
        if bool(unknown.any()):
            known = (self.species_index >= 0).nonzero().squeeze(1).tolist()
            raise SettingError("numbers", sorted(set(numbers[unknown].tolist())), f"the elements of the model, {known}")
        return kind


def _read(facts: Mapping[str, Any]) -> tuple[list[int], list[float], float, float]:
    """Species, reference energies, scale and mean neighbours. Raises SettingError."""
    needed = ("species", "reference_energies", "force_rms", "mean_neighbours")
    missing = [name for name in needed if name not in facts]
    if missing:
        raise SettingError("facts", sorted(facts), f"with {', '.join(missing)}, as `gather_facts` returns them")
    species, reference = list(facts["species"]), list(facts["reference_energies"])
    require(len(species) == len(reference) > 0, "facts.species", species, "at least one, each with a reference energy")
    require(all(0 < number < ELEMENTS for number in species), "facts.species", species, f"1 to {ELEMENTS - 1}")
    scale, neighbours = float(facts["force_rms"]), float(facts["mean_neighbours"])
    require(scale > 0, "facts.force_rms", scale, "positive, in eV/angstrom")
    require(neighbours > 0, "facts.mean_neighbours", neighbours, "positive")
    return species, reference, scale, neighbours
