"""The stress of periodic structures: how the energy answers to a strain of space.

Shapes: N atoms, B structures. Lengths in angstrom, energies in eV. Source: Knuth et al. 2015 (arXiv 1503.04039), eq. 7.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equimodels.errors import require
from equimodels.models.graph import AtomGraph


class EnergyForcesStress(NamedTuple):
    """energy (B,) float64, eV; forces (N, 3), eV/angstrom; stress (B, 3, 3), symmetric, eV/angstrom^3.

    Stress as in ASE: positive along an axis where the structure pulls inwards.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor


def with_stress(model: Callable[..., Any], graph: AtomGraph, volumes: Tensor) -> EnergyForcesStress:
    """Energy, forces and stress, detached; volumes: (B,) of the cells, angstrom^3.

    stress = d energy / d strain / volume at strain zero, where a strain e moves positions and lattice alike, x to
    (1 + e) x. `model(graph, False)` gives energies that can be differentiated by positions and shifts; one backward
    pass gives forces and stress. Works under `no_grad` and `inference_mode`. Raises SettingError for wrong volumes.
    """
    fits = volumes.shape == (graph.structures,) and bool((volumes > 0).all())
    require(fits, "volumes", tuple(volumes.shape), f"{graph.structures} positive numbers, one a structure")
    with torch.inference_mode(False), torch.enable_grad():
        graph = graph.usable_by_autograd()
        positions = graph.positions.detach().requires_grad_()
        strain = positions.new_zeros(graph.structures, 3, 3).requires_grad_()
        of_atom = ((strain + strain.mT) / 2).index_select(0, graph.owner)
        moved = positions + (of_atom @ positions[:, :, None]).squeeze(2)
        of_edge = of_atom.index_select(0, graph.edges[0])
        shifts = graph.shifts + (of_edge @ graph.shifts.to(positions)[:, :, None]).squeeze(2)
        energy = model(replace(graph, positions=moved, shifts=shifts), False).energy
        by_positions, by_strain = torch.autograd.grad(energy.sum(), [positions, strain], materialize_grads=True)
    stress = by_strain / volumes.to(by_strain)[:, None, None]
    return EnergyForcesStress(energy.detach(), -by_positions, stress)
