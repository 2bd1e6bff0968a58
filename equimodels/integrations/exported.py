"""A potential as one file, without the code it was made by: exported by torch, loaded with torch and numpy alone.

Shapes: n atoms of one structure, e directed edges. Lengths in angstrom, energies in eV.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from equimodels.errors import SettingError, require
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.potential import Potential

FACTS = "equimodels.json"
VERSION = 1
Program = Callable[..., tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class ExportedPotential:
    """A loaded file. species: atomic numbers, ascending; cutoff: angstrom."""

    program: Program
    species: tuple[int, ...]
    cutoff: float
    dtype: torch.dtype

    def __call__(self, structure: Structure) -> tuple[float, Tensor, Tensor]:
        """Energy (eV), forces (n, 3) (eV/angstrom), and virial (3, 3) (eV): the energy's slope by a strain.

        The stress of a crystal is virial / volume. Raises SettingError for an element that the potential does not know.
        """
        kind = torch.searchsorted(torch.tensor(self.species), structure.numbers).clamp(max=len(self.species) - 1)
        unknown = torch.tensor(self.species)[kind] != structure.numbers
        if bool(unknown.any()):
            found = sorted(set(structure.numbers[unknown].tolist()))
            raise SettingError("numbers", found, f"the elements of the model, {list(self.species)}")
        positions = structure.positions.to(self.dtype)
        shifts = positions.new_zeros(structure.edges.shape[1], 3) if structure.shifts is None else structure.shifts
        energy, forces, virial = self.program(kind, positions, structure.edges, shifts.to(self.dtype))
        return float(energy), forces, virial


def save_exported(model: Potential, path: Path) -> None:
    """Write energy, forces and virial of the potential, in its dtype, as a program for any structure.

    Raises SettingError for a potential with `charge_spin`: the program is told neither.
    """
    require(model.embed_state is None, "charge_spin", True, "false: the program is not told of charge and spin")
    model = model.eval()
    example = _example(model)
    traced = make_fx(lambda *given: _evaluate(model, *given), tracing_mode="symbolic", _allow_non_fake_inputs=True)
    graph = traced(*example)
    atoms, edges = torch.export.Dim("atoms", min=2), torch.export.Dim("edges", min=2)
    exported = torch.export.export(graph, example, dynamic_shapes=({0: atoms}, {0: atoms}, {1: edges}, {0: edges}))
    config: Any = model.config
    facts = {
        "version": VERSION,
        "species": model.species,
        "cutoff": config.cutoff,
        "dtype": str(model.embed.dtype).removeprefix("torch."),
    }
    torch.export.save(exported, path, extra_files={FACTS: json.dumps(facts)})


def load_exported(path: Path) -> ExportedPotential:
    """The potential of a file. Raises SettingError for a file of another version or kind."""
    extra = {FACTS: ""}
    program = torch.export.load(path, extra_files=extra).module()
    facts = json.loads(extra[FACTS] or "{}")
    if facts.get("version") != VERSION:
        raise SettingError("path", str(path), f"a file of `save_exported`, version {VERSION}")
    return ExportedPotential(program, tuple(facts["species"]), facts["cutoff"], getattr(torch, facts["dtype"]))


def _evaluate(
    model: Potential, kind: Tensor, positions: Tensor, edges: Tensor, shifts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    positions = positions.detach().requires_grad_()
    strain = positions.new_zeros(3, 3).requires_grad_()
    both = (strain + strain.mT) / 2
    owner = torch.zeros_like(kind)
    graph = AtomGraph(kind, positions, edges, shifts + shifts @ both, owner, 1)
    scaled = model.scaled_energies(graph, kind, positions + positions @ both)
    by_positions, by_strain = torch.autograd.grad(scaled.sum(), [positions, strain])
    energy = model.total_energies(graph, kind, scaled)
    return energy.squeeze(0).detach(), by_positions * -model.scale, by_strain * model.scale


def _example(model: Potential) -> tuple[Tensor, ...]:
    """Seven atoms, all species among them; no two sizes are equal by chance."""
    config: Any = model.config
    random = np.random.default_rng(0)
    positions = random.normal(scale=0.25 * config.cutoff, size=(7, 3))
    kind = torch.arange(7) % len(model.species)
    structure = Structure.of(np.array(model.species)[kind.numpy()], positions, 2 * config.cutoff, model.embed.dtype)
    shifts = structure.positions.new_zeros(structure.edges.shape[1], 3)
    return kind, structure.positions, structure.edges, shifts
