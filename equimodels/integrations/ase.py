"""A potential as a calculator of ASE: relaxation, molecular dynamics, phonons and whatever else is written for ASE."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from equimodels.checkpoint import DTYPES, load_model
from equimodels.errors import SettingError, require
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.potential import Potential
from equimodels.models.stress import with_stress


class EquimodelsCalculator(Calculator):
    """Energy (eV), forces (eV/angstrom) and, where all directions repeat, stress (eV/angstrom^3) of a potential.

    path: a checkpoint directory, as `equi export NAME@VERSION --out DIR` writes it. device: of torch. dtype: `float32`
    or `float64`, that of the checkpoint unless given. In float32 forces are exact to about 1e-6 of the largest; for
    second derivatives (phonons) and tight relaxations take float64. Of models with `charge_spin`, `atoms.info` says the
    `charge` and the multiplicity `spin`; neutral singlets where it does not.
    Raises CheckpointError, and SettingError for a model that is no potential, an unknown dtype, or, when it
    calculates, an element that the potential has not been fitted to.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (as ASE declares it)

    def __init__(
        self, path: Path | str, *, device: torch.device | str = "cpu", dtype: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        require(dtype in (None, "float32", "float64"), "dtype", dtype, "float32, float64, or none for the checkpoint's")
        model = load_model(Path(path))
        if not isinstance(model, Potential):
            raise SettingError("path", str(path), f"a potential; this is a {type(model).__name__}")
        self.model = model.to(device=device, dtype=None if dtype is None else DTYPES[dtype])
        config: Any = model.config
        self.cutoff = float(config.cutoff)
        self.device = torch.device(device)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill `results`; ASE calls it. Raises PropertyNotImplementedError for the stress of what has no volume."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        current: Any = self.atoms
        repeats = bool(current.pbc.all())
        if "stress" in (properties or ()) and not repeats:
            raise PropertyNotImplementedError("stress needs a cell that repeats in all three directions")
        graph = self._graph(current)
        if repeats:
            # One backward pass gives forces and stress: what molecular dynamics at constant pressure asks for in turn.
            volume = torch.tensor([current.get_volume()], dtype=torch.float64, device=self.device)
            energy, forces, stress = with_stress(self.model, graph, volume)
            full = stress[0].double().cpu().numpy()
            self.results["stress"] = full_3x3_to_voigt_6_stress(full)  # type: ignore[no-untyped-call]
        else:
            energy, forces = self.model(graph)
        self.results["energy"] = self.results["free_energy"] = float(energy)
        self.results["forces"] = forces.double().cpu().numpy()

    def _graph(self, atoms: Atoms) -> AtomGraph:
        periodic = {"cell": atoms.cell.array, "pbc": atoms.pbc} if atoms.pbc.any() else {}
        structure = Structure.of(atoms.numbers, atoms.positions, self.cutoff, **periodic)
        charge, spin = float(atoms.info.get("charge", 0.0)), int(atoms.info.get("spin", 1))
        structure = replace(structure, charge=charge, spin=spin)
        return AtomGraph.collate([structure]).to(self.device)
