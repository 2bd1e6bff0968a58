"""The repulsion of nuclei: its formula, where it ends, and what it does to a potential."""

import math

import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.invariant_potential import InvariantPotential, InvariantPotentialConfig
from equimodels.models.repulsion import COVALENT_RADII, Repulsion
from equimodels.testing import ModelContract

EMBEDDING = {"radial": {"name": "bessel", "params": {"number": 6}}}
FACTS = {
    "species": [1, 6, 8],
    "reference_energies": [-13.6, -1029.5, -2042.0],
    "force_rms": 1.2,
    "mean_neighbours": 5.0,
}


def pair(distance, module, kind=(0, 1)):
    """The energy of two atoms."""
    edges = torch.tensor([[0, 1], [1, 0]])
    return module(torch.tensor(kind), edges, distance.expand(2)).sum()


def universal(z1, z2, r):
    """The potential as its authors print it, in electronvolt and angstrom, without an end."""
    x = r * (z1**0.23 + z2**0.23) / 0.4685
    phi = 0.18175 * math.exp(-3.1998 * x) + 0.50986 * math.exp(-0.94229 * x)
    phi += 0.28022 * math.exp(-0.4029 * x) + 0.02817 * math.exp(-0.20162 * x)
    return 14.399645 * z1 * z2 / r * phi


@pytest.mark.parametrize(("z1", "z2"), [(1, 1), (6, 8), (29, 79)])
def test_close_up_it_is_the_universal_potential(z1, z2):
    module = Repulsion([z1, z2], 5.0).double()
    for r in (0.01, 0.05):
        found = pair(torch.tensor(r, dtype=torch.float64), module)
        assert_close(float(found), universal(z1, z2, r), rtol=1e-3, atol=0)


def test_it_ends_smoothly_where_the_atoms_would_be_bound():
    module, end = Repulsion([6, 8], 5.0).double(), 0.76 + 0.66
    for r, size in ((0.5 * end, 1.0), (end - 1e-4, 1e-6), (end, 1e-12), (1.1 * end, 0.0)):
        distance = torch.tensor(r, dtype=torch.float64, requires_grad=True)
        energy = pair(distance, module)
        (slope,) = torch.autograd.grad(energy, distance, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, distance)
        assert (energy > size) if size == 1.0 else (energy.abs() <= size)
        assert slope <= 0
        if r >= end:
            assert abs(curvature) < 1e-9
    short = Repulsion([6, 8], 1.0).double()
    assert pair(torch.tensor(1.01, dtype=torch.float64), short) == 0


def test_the_radii_are_those_of_ase():
    assert_close(torch.tensor(COVALENT_RADII), torch.tensor(covalent_radii[1:97]).float())
    with pytest.raises(SettingError, match="96"):
        Repulsion([1, 97], 5.0)


def test_atoms_of_a_potential_with_it_cannot_meet():
    for repulsion in (False, True):
        config = InvariantPotentialConfig(channels=8, radial_hidden=8, repulsion=repulsion)
        model = InvariantPotential(config, embedding=EMBEDDING, facts=FACTS).double().eval()
        far, near = (Structure.of(np.array([6, 8]), np.array([[0, 0, 0], [0, 0, r]]), 5.0) for r in (1.5, 0.05))
        energy, forces = model(AtomGraph.collate([far, near]))
        assert (energy[1] - energy[0] > 1000) == repulsion
        assert (forces[3, 2] > 1e4) == repulsion


class TestWithRepulsion(ModelContract):
    def build(self):
        config = InvariantPotentialConfig(channels=8, layers=2, radial_hidden=8, repulsion=True)
        return InvariantPotential(config, embedding=EMBEDDING, facts=FACTS)
