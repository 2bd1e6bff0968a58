"""The two-phase step gives the gradients of double backward, its slow twin, to 1e-12 in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from equimodels.models.attention_potential import AttentionPotential, AttentionPotentialConfig
from equimodels.models.gaunt_potential import GauntPotential, GauntPotentialConfig
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.invariant_potential import InvariantPotential, InvariantPotentialConfig
from equimodels.objectives.energy_force import EnergyForce, EnergyForceConfig, LabelledGraph
from jobs.strategy.recompute import recompute
from jobs.strategy.two_phase import two_phase

FACTS = {"species": [1, 8], "reference_energies": [-13.0, -400.0], "force_rms": 1.7, "mean_neighbours": 4.0}
CONFIGS = [
    GauntPotentialConfig(lmax=0, channels=3, layers=1, many_body_order=1, radial_hidden=4, readout_hidden=3),
    GauntPotentialConfig(lmax=1, channels=3, layers=1, many_body_order=2, radial_hidden=4, readout_hidden=3),
    GauntPotentialConfig(lmax=2, channels=4, layers=3, many_body_order=3, radial_hidden=4, readout_hidden=3),
]
OTHERS = [
    InvariantPotentialConfig(channels=4, layers=2, radial_hidden=4, readout_hidden=3),
    AttentionPotentialConfig(channels=4, heads=2, radial_hidden=4, readout_hidden=3),
]
POTENTIALS = {
    GauntPotentialConfig: GauntPotential,
    InvariantPotentialConfig: InvariantPotential,
    AttentionPotentialConfig: AttentionPotential,
}
BASES = [
    {"name": "bessel", "params": {"number": 4, "trainable": True}},
    {"name": "gaussian", "params": {"number": 4}},
    {"name": "chebyshev", "params": {"number": 4}},
]


class Plain:
    """An engine that does nothing of its own."""

    def __init__(self, module):
        self.module = module

    def forward(self, *inputs):
        return self.module(*inputs)

    def backward(self, loss, *, last=True):
        self.last = last
        loss.backward()


def model(config, basis=BASES[0], dtype=torch.float64):
    torch.manual_seed(0)
    made = POTENTIALS[type(config)].build(config, {"radial": basis}, FACTS).to(dtype).train()
    torch.nn.init.normal_(made.readout_last)
    return made


def batch(seed=0, dtype=torch.float64, *, periodic=False):
    random, parts = np.random.default_rng(seed), []
    for atoms in (1, 4, 5):
        x = np.indices((2, 2, 2)).reshape(3, -1).T[:atoms] * 1.4 + random.normal(scale=0.1, size=(atoms, 3))
        numbers = random.choice([1, 8], atoms)
        parts.append(Structure.of(numbers, x, 5.0, dtype, cell=np.eye(3) * 4.1 if periodic else None))
    graph = AtomGraph.collate(parts)
    forces = torch.from_numpy(random.normal(size=graph.positions.shape)).to(dtype)
    return LabelledGraph(graph, torch.from_numpy(random.normal(size=3)) - 500, forces)


def gradients(module, step):
    module.zero_grad()
    step()
    # The first layers' readouts have no rows where there is one layer.
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in module.named_parameters() if p.numel()
    }


def compare(config, objective=None, basis=BASES[0], **how):
    """Losses of both ways, and the largest difference of a gradient beside the largest of its parameter."""
    objective = objective or EnergyForce(EnergyForceConfig())
    slow, fast = model(config, basis), model(config, basis)
    engine, labelled, losses = two_phase(Plain(fast), fast), batch(**how), []

    def double_backward():
        losses.append(objective(slow, labelled)[0])
        losses[-1].backward()

    def two_phases():
        losses.append(objective(engine.forward, labelled)[0])
        engine.backward(losses[-1])

    expected, found = gradients(slow, double_backward), gradients(fast, two_phases)
    assert expected.keys() == found.keys()
    apart = [
        float((found[name] - gradient).abs().max() / gradient.abs().max().clamp(min=1e-12))
        for name, gradient in expected.items()
    ]
    return losses, max(apart)


@pytest.mark.parametrize("config", CONFIGS + OTHERS, ids=["lmax 0", "lmax 1", "three layers", "invariant", "attention"])
@pytest.mark.parametrize("periodic", [False, True])
def test_gradients_are_those_of_double_backward(config, periodic):
    losses, apart = compare(config, periodic=periodic)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    assert apart < 1e-12


@pytest.mark.parametrize("basis", BASES, ids=lambda basis: basis["name"])
def test_every_radial_basis_can_be_differentiated_forward(basis):
    assert compare(CONFIGS[1], basis=basis)[1] < 1e-12


@pytest.mark.parametrize(("energy", "force"), [(1.0, 0.0), (0.0, 1.0)])
def test_one_of_the_two_losses_alone(energy, force):
    config = EnergyForceConfig(energy_weight=energy, force_weight=force)
    assert compare(CONFIGS[1], EnergyForce(config))[1] < 1e-12


def test_a_wrong_sign_is_seen():
    """The negative control: without the rate along the forces, gradients are far off."""
    slow, fast = model(CONFIGS[1]), model(CONFIGS[1])
    objective, labelled = EnergyForce(EnergyForceConfig()), batch()
    expected = gradients(slow, lambda: objective(slow, labelled)[0].backward())
    wrong = EnergyForce(EnergyForceConfig(force_weight=0.0))
    engine = two_phase(Plain(fast), fast)
    found = gradients(fast, lambda: engine.backward(wrong(engine.forward, labelled)[0]))
    assert any((found[name] - expected[name]).abs().max() > 0.1 * expected[name].abs().max() for name in expected)


def test_predictions_of_several_batches_share_one_loss():
    slow, fast, batches = model(CONFIGS[1]), model(CONFIGS[1]), [batch(0), batch(1)]
    objective, engine = EnergyForce(EnergyForceConfig()), two_phase(Plain(fast), fast)
    expected = gradients(slow, lambda: sum(objective(slow, one)[0] for one in batches).backward())
    found = gradients(fast, lambda: engine.backward(sum(objective(engine.forward, one)[0] for one in batches)))
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=1e-11, atol=1e-11 * float(gradient.abs().max()))


def test_activations_that_are_computed_again_give_the_same_gradients():
    kept, forgetful, labelled = model(CONFIGS[2]), model(CONFIGS[2]), batch()
    objective = EnergyForce(EnergyForceConfig())
    recompute(forgetful)
    first, second = (two_phase(Plain(made), made) for made in (kept, forgetful))
    expected = gradients(kept, lambda: first.backward(objective(first.forward, labelled)[0]))
    found = gradients(forgetful, lambda: second.backward(objective(second.forward, labelled)[0]))
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient)


def test_evaluation_gives_the_metrics_of_the_model_and_keeps_nothing():
    made = model(CONFIGS[1])
    expected = EnergyForce(EnergyForceConfig()).evaluate(made.eval(), batch())
    engine = two_phase(Plain(made), made)
    found = EnergyForce(EnergyForceConfig()).evaluate(engine.forward, batch())
    for name, value in expected.items():
        assert_close(found[name], value)
    predicted = engine.forward(batch().graph)
    assert not predicted.energy.requires_grad
    assert not predicted.forces.requires_grad
    with torch.inference_mode():
        graph = replace(batch().graph, positions=batch().graph.positions.clone())
        assert_close(engine.forward(graph).forces, predicted.forces)


def test_predictions_are_in_the_dtypes_of_the_model():
    made = model(CONFIGS[1], dtype=torch.float32)
    predicted = two_phase(Plain(made), made).forward(batch().graph)
    assert (predicted.energy.dtype, predicted.forces.dtype) == (torch.float64, torch.float32)


def test_a_loss_of_one_step_that_never_came_back_is_forgotten_by_the_next():
    made, labelled = model(CONFIGS[1]), batch()
    engine = two_phase(Plain(made), made)
    engine._engine.step = lambda lr, limit: math.nan
    engine.forward(labelled.graph)
    engine.step(1e-3)
    loss = EnergyForce(EnergyForceConfig())(engine.forward, labelled)[0]
    engine.backward(loss)
    assert made.embed.grad is not None
    assert not engine._waiting
