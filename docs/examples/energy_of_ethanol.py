"""A published potential without any cluster: energy and forces of a molecule."""

from pathlib import Path

import torch
from ase.build import molecule

from cluster.registry import fetch_model
from cluster.store import open_store
from equimodels.checkpoint import load_model
from equimodels.models.graph import AtomGraph, Structure

published = fetch_model(open_store(".equi/store"), "ethanol@prod", Path(".equi/ethanol"))
potential, atoms = load_model(Path(".equi/ethanol")), molecule("CH3CH2OH")
structure = Structure.of(atoms.numbers, atoms.positions, potential.config.cutoff, torch.float32)
energy, forces = potential(AtomGraph.collate([structure]))
print(f"{published.ref}: {energy.item():.3f} eV, largest force {forces.norm(dim=1).max():.3f} eV/Å")  # noqa: T201
