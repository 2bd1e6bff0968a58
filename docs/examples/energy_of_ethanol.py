"""A published potential without any cluster: energy and forces of a molecule."""

from pathlib import Path

import torch
from ase.build import molecule

from cluster.registry import fetch_model
from cluster.store import open_store
from equimodels.checkpoint import load_model
from equimodels.models.graph import AtomGraph, Structure

published = fetch_model(open_store(".equi/store"), "ethanol@prod", Path(".equi/ethanol"))
potential = load_model(Path(".equi/ethanol"))
atoms = molecule("CH3CH2OH")
graph = AtomGraph.collate([Structure.of(atoms.numbers, atoms.positions, potential.config.cutoff, torch.float32)])
energy, forces = potential(graph)
largest = forces.norm(dim=1).max()
print(f"{published.ref}: {energy.item():.3f} eV, largest force {largest:.3f} eV/Å")  # noqa: T201
