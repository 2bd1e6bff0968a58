"""A potential as one file that torch alone runs, without the code it was made by: exported, or compiled as well.

Shapes: n atoms of one structure, e directed edges. Lengths in angstrom, energies in eV.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from equimodels.errors import SettingError, require
from equimodels.integrations.processor import require_processor
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
        with torch.no_grad():
            energy, forces, virial = self.program(kind, positions, structure.edges, shifts.to(self.dtype))
        return float(energy), forces, virial


def save_exported(model: Potential, path: Path | str) -> None:
    """Write energy, forces and virial of the potential, in its dtype, as a program for any structure.

    Raises SettingError for a path that does not end in .pt2, and for a potential with `charge_spin`, of which the
    program is not told, or one that is not on the CPU.
    """
    require_exportable(model, path)
    program, facts = traced(model)
    torch.export.save(program, path, extra_files={FACTS: json.dumps(facts)})


def load_exported(path: Path | str) -> ExportedPotential:
    """The potential of a file of `save_exported` or `save_compiled`, on the CPU. The file is run: trust who wrote it.

    Raises FileNotFoundError; SettingError for a file of another version or kind, and for one that was compiled for
    processors that can do more than this one.
    """
    facts = _facts(Path(path))
    if facts.get("version") != VERSION:
        raise SettingError("path", str(path), f"a file of `save_exported` or `save_compiled`, version {VERSION}")
    if "processor" in facts:
        require_processor(facts["processor"])
        program: Any = torch._inductor.aoti_load_package(path)
    else:
        program = torch.export.load(path).module()
    return ExportedPotential(program, tuple(facts["species"]), facts["cutoff"], getattr(torch, facts["dtype"]))


def require_exportable(model: Potential, path: Path | str) -> None:
    """Raise SettingError unless the potential can be a program, and this the file's name."""
    require(model.embed_state is None, "charge_spin", True, "false: the program is not told of charge and spin")
    require(model.embed.device.type == "cpu", "model", f"on {model.embed.device}", "on the CPU")
    require(Path(path).suffix == ".pt2", "path", str(path), "a file name that ends in .pt2, as torch wants it")


def traced(model: Potential) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """The program, and what who runs it has to know."""
    model = model.eval()
    example = _example(model)
    operations = make_fx(lambda *given: _evaluate(model, *given), tracing_mode="symbolic", _allow_non_fake_inputs=True)
    graph = operations(*example)
    graph.graph.eliminate_dead_code()  # a readout of no layers makes lists without an element, which no file can hold
    graph.recompile()
    atoms, edges = torch.export.Dim("atoms", min=1), torch.export.Dim("edges", min=0)
    program = torch.export.export(graph, example, dynamic_shapes=({0: atoms}, {0: atoms}, {1: edges}, {0: edges}))
    config: Any = model.config
    return program, {
        "version": VERSION,
        "species": model.species,
        "cutoff": config.cutoff,
        "dtype": str(model.embed.dtype).removeprefix("torch."),
    }


def _facts(path: Path) -> dict[str, Any]:
    """What a file says of itself, read before anything in it is run; nothing where it is of another kind."""
    if not zipfile.is_zipfile(path.resolve(strict=True)):
        return {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"/extra/{FACTS}"):
                return dict(json.loads(archive.read(name)))
            if "/data/aotinductor/" in name and name.endswith("_metadata.json"):
                said = json.loads(archive.read(name)).get(FACTS)
                if said is not None:
                    return dict(json.loads(said))
    return {}


def _evaluate(
    model: Potential, kind: Tensor, positions: Tensor, edges: Tensor, shifts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    positions = positions.detach().requires_grad_()
    strain = positions.new_zeros(3, 3).requires_grad_()
    both = (strain + strain.mT) / 2
    # Each atom as a structure of its own, so that energies end in a sum: to add all of them at one constant place is
    # what Inductor of torch 2.13 cannot write for several threads.
    atoms = kind.shape[0]
    graph = AtomGraph(kind, positions, edges, shifts + shifts @ both, torch.arange(atoms), atoms)
    scaled = model.scaled_energies(graph, kind, positions + positions @ both)
    by_positions, by_strain = torch.autograd.grad(scaled.sum(), [positions, strain])
    energy = model.total_energies(graph, kind, scaled).sum()
    return energy.detach(), by_positions * -model.scale, by_strain * model.scale


def _example(model: Potential) -> tuple[Tensor, ...]:
    """Seven atoms, all species among them; no two sizes are equal by chance."""
    config: Any = model.config
    random = np.random.default_rng(0)
    positions = random.normal(scale=0.25 * config.cutoff, size=(7, 3))
    kind = torch.arange(7) % len(model.species)
    structure = Structure.of(np.array(model.species)[kind.numpy()], positions, 2 * config.cutoff, model.embed.dtype)
    shifts = structure.positions.new_zeros(structure.edges.shape[1], 3)
    return kind, structure.positions, structure.edges, shifts
