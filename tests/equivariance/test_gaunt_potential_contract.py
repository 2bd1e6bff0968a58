"""The Gaunt potential keeps the contract at several degrees and orders, and fails it when under-resolved."""

import pytest
import torch
from facts_of_potentials import EMBEDDING, FACTS

from equimodels.models.antisymmetric import AntisymmetricBlock
from equimodels.models.gaunt_potential import GauntPotential, GauntPotentialConfig
from equimodels.models.products import Quadrature
from equimodels.testing import ModelContract


def potential(products=None, **params):
    config = GauntPotentialConfig(**({"channels": 4, "radial_hidden": 8} | params))
    return GauntPotential(config, embedding=EMBEDDING, facts=FACTS, products=products)


class TestDefaultDegrees(ModelContract):
    def build(self):
        return potential()


class TestDegreeThree(ModelContract):
    def build(self):
        return potential(lmax=3, many_body_order=2)


class TestThreeLayersOfDegreeOne(ModelContract):
    def build(self):
        return potential(lmax=1, layers=3)


class TestFewerDegreesBetweenLayers(ModelContract):
    def build(self):
        return potential(lmax=2, lmax_between=1)


class TestAntisymmetric(ModelContract):
    def build(self):
        return potential(antisymmetric=True, many_body_order=1)


class TestPairsOnly(ModelContract):
    cutoff = 3.0

    def build(self):
        return potential(lmax=0, layers=1, many_body_order=1, cutoff=3.0)


@pytest.mark.parametrize("deficit", [2, 4])
def test_an_under_resolved_grid_is_caught(deficit):
    class UnderResolved(ModelContract):
        def build(self):
            return potential(Quadrature(degree_deficit=deficit), lmax=2)

    contract = UnderResolved()
    with pytest.raises(AssertionError, match=r"rotation|turn"):
        contract.check_equivariance(contract.model(torch.float64), torch.float64)


def test_forces_of_a_crystal_that_are_not_quite_the_gradient_are_caught():
    contract = TestPairsOnly()
    model = contract.model(torch.float64)

    def inexact(graph):
        energy, forces = model(graph)
        return energy, forces * 1.0001

    contract.check_conservative(model, contract.crystal())
    with pytest.raises(AssertionError, match="gradient"):
        contract.check_conservative(inexact, contract.crystal())


def test_the_antisymmetric_channel_keeps_unit_variance():
    block = AntisymmetricBlock(2, 2, 64, Quadrature()).double()
    x = torch.randn(200, 64, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert 0.5 < float(block(x).detach().square().mean().sqrt()) < 2
