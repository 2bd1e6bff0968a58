"""The invariant and the attention potential keep the contract of potentials."""

import pytest
import torch
from facts_of_potentials import EMBEDDING, FACTS

from equimodels.models.attention_potential import AttentionPotential, AttentionPotentialConfig
from equimodels.models.invariant_potential import InvariantPotential, InvariantPotentialConfig
from equimodels.testing import ModelContract


class TestInvariant(ModelContract):
    def build(self):
        config = InvariantPotentialConfig(channels=8, radial_hidden=8)
        return InvariantPotential(config, embedding=EMBEDDING, facts=FACTS)


def attention(**params):
    config = AttentionPotentialConfig(**({"channels": 4, "heads": 2, "radial_hidden": 8} | params))
    return AttentionPotential(config, embedding=EMBEDDING, facts=FACTS)


class TestAttention(ModelContract):
    def build(self):
        return attention()


class TestAttentionOfDegreeThreeInThreeLayers(ModelContract):
    def build(self):
        return attention(lmax=3, layers=3, channels=2, heads=1)


class TestAttentionWithoutDirections(ModelContract):
    cutoff = 3.0

    def build(self):
        return attention(lmax=0, layers=1, cutoff=3.0)


def test_an_under_resolved_attention_is_caught():
    from equimodels.ops import GauntConvolution

    contract = TestAttention()
    model = contract.model(torch.float64)
    model.layers[1].convolve = GauntConvolution(2, 2, 0, degree=3).double()
    with pytest.raises(AssertionError, match=r"rotation|turn"):
        contract.check_equivariance(model, torch.float64)
