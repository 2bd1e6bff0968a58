"""What every interatomic potential of ours shares: species, references, scale, and forces as a gradient.

Shapes: N atoms, B structures, S species. Lengths in angstrom, energies in eV.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from equimodels.errors import SettingError, require
from equimodels.models.atomic_facts import LabelledStructure, atomic_facts
from equimodels.models.graph import AtomGraph
from equimodels.models.repulsion import Repulsion
from equimodels.ops.exact import ExactTables

ELEMENTS = 119  # atomic numbers below this


class EnergyForces(NamedTuple):
    """energy (B,) float64, eV; forces (N, 3) in the dtype of the model, eV/angstrom, or (0, 3) where not asked for."""

    energy: Tensor
    forces: Tensor


class Potential(ExactTables):
    """Energies and conservative forces of structures, from `atomic_energies`, which a subclass defines.

    energy = sum over atoms of reference[species] + scale * atomic energy, the reference and the sum in float64;
    forces = -d energy / d positions. The scale is the root mean square force of the training set times 1 angstrom.
    Where `config.repulsion` is true, the repulsion of nuclei is added (`Repulsion`), which nothing has to learn.

    `facts` are those of `gather_facts`. Made as `cls(config, embedding=..., facts=...)`; config.cutoff in angstrom. A
    subclass makes `embed`, (S, channels), one row a species, whose dtype is that of the model. Raises SettingError.
    """

    conservative: ClassVar[bool] = True  # forces are a gradient taken in `forward`: a loss on them needs a second one
    embed: nn.Parameter
    species_index: Tensor
    reference: Tensor

    def __init__(self, config: Any, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.species, reference, self.scale, self.neighbours = _read(facts)
        # Of charge and unpaired electrons: added to what each atom of the structure begins with.
        self.embed_state = nn.Parameter(torch.randn(2, config.channels) / 2) if _asks(config, "charge_spin") else None
        repels = _asks(config, "repulsion")
        self.repulsion = Repulsion(self.species, config.cutoff) if repels else None
        index = torch.full((ELEMENTS,), -1)
        index[torch.tensor(self.species)] = torch.arange(len(self.species))
        self.register_buffer("species_index", index, persistent=False)
        self.add_table("reference", torch.tensor(reference, dtype=torch.float64), rounded=False)

    @classmethod
    def build(cls, config: Any, embedding: Mapping[str, Any], facts: Mapping[str, Any]) -> Self:
        """The potential with fresh weights. Raises SettingError and UnknownComponentError."""
        made: Any = cls
        potential: Self = made(config, embedding=embedding, facts=facts)
        return potential

    @classmethod
    def gather_facts(cls, config: Any, samples: Iterable[LabelledStructure]) -> dict[str, Any]:
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
            return EnergyForces(
                self.total_energies(graph, kind, self.scaled_energies(graph, kind, positions)), positions[:0]
            )
        with torch.inference_mode(False), torch.enable_grad():
            graph = graph.usable_by_autograd()
            kind = self._kind(graph.numbers)
            positions = graph.positions.to(self.embed.dtype)
            if not positions.requires_grad:
                positions = positions.detach().requires_grad_()
            scaled = self.scaled_energies(graph, kind, positions)
            (gradient,) = torch.autograd.grad(scaled.sum(), positions, create_graph=self.training)
            energy = self.total_energies(graph, kind, scaled if self.training else scaled.detach())
            return EnergyForces(energy, gradient * -self.scale)

    def atomic_energies(self, graph: AtomGraph, kind: Tensor, positions: Tensor) -> Tensor:
        """(N,) energies in units of `scale`, without references; kind (N,) is the species index, positions (N, 3)."""
        raise NotImplementedError

    def embedded(self, graph: AtomGraph, kind: Tensor) -> Tensor:
        """(N, channels): what each atom begins with, by its species and, where the model is told, charge and spin."""
        atoms = self.embed.index_select(0, kind)
        if self.embed_state is None or graph.state is None:
            return atoms
        return atoms + (graph.state.to(atoms.dtype) @ self.embed_state).index_select(0, graph.owner)

    def edge_vectors(self, graph: AtomGraph, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors from sender to receiver (E, 3), and their lengths (E,)."""
        sender, receiver = graph.edges
        vectors = positions.index_select(0, receiver) - positions.index_select(0, sender) + graph.shifts.to(positions)
        return vectors, torch.linalg.vector_norm(vectors, dim=1)

    def scaled_energies(self, graph: AtomGraph, kind: Tensor, positions: Tensor) -> Tensor:
        """`atomic_energies` with the repulsion of nuclei, where there is one."""
        energies = self.atomic_energies(graph, kind, positions)
        if self.repulsion is None:
            return energies
        _, distance = self.edge_vectors(graph, positions)
        repulsion: Tensor = self.repulsion(kind, graph.edges, distance)
        return energies + repulsion / self.scale

    def total_energies(self, graph: AtomGraph, kind: Tensor, scaled: Tensor) -> Tensor:
        """(B,) float64, eV, with references: these and sums never see a lower precision."""
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


def _asks(config: Any, option: str) -> bool:
    """Whether a setting that a plug-in's config need not have is on."""
    return bool(getattr(config, option, False))


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
