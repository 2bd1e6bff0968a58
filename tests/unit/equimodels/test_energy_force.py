"""The energy-force loss is the formula it documents, and its metrics can be added over workers."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.models.gaunt_potential import EnergyForces, GauntPotential, GauntPotentialConfig
from equimodels.models.graph import AtomGraph, Structure
from equimodels.objectives.energy_force import EnergyForce, EnergyForceConfig, LabelledGraph

SIZES = (2, 5)


def labelled(seed=0, sizes=SIZES):
    random = np.random.default_rng(seed)
    parts = [Structure.of(np.ones(n), random.normal(size=(n, 3)), 5.0, torch.float32) for n in sizes]
    energy = torch.from_numpy(random.normal(size=len(sizes)) - 1e5)
    forces = torch.from_numpy(random.normal(size=(sum(sizes), 3))).float()
    return LabelledGraph(AtomGraph.collate(parts), energy, forces)


def guess(graph):
    return EnergyForces(torch.full((graph.structures,), -1e5, dtype=torch.float64), torch.zeros_like(graph.positions))


def test_the_loss_is_the_documented_formula():
    batch = labelled()
    loss, _ = EnergyForce(EnergyForceConfig(energy_weight=2.0, force_weight=3.0))(guess, batch)
    error = ((-1e5 - batch.energy) / torch.tensor(SIZES)).square().mean()
    assert_close(loss.double(), 2 * error + 3 * batch.forces.double().square().mean(), rtol=1e-6, atol=0)
    assert loss.dtype == torch.float32


def test_the_metrics_are_sums_and_counts_of_the_definition():
    batch = labelled()
    _, metrics = EnergyForce(EnergyForceConfig())(guess, batch)
    value = {name: float(pair[0] / pair[1]) for name, pair in metrics.items()}
    assert set(value) == {"loss", "energy_mae_per_atom", "force_mae", "force_mean_abs"}
    assert value["energy_mae_per_atom"] == pytest.approx(
        float(((-1e5 - batch.energy).abs() / torch.tensor(SIZES)).mean())
    )
    assert value["force_mae"] == pytest.approx(float(batch.forces.abs().mean()))
    assert value["force_mean_abs"] == pytest.approx(float(batch.forces.abs().mean()))
    assert all(pair.dtype == torch.float64 and pair.shape == (2,) for pair in metrics.values())


def test_metrics_of_parts_add_up_to_those_of_the_whole():
    objective, batch = EnergyForce(EnergyForceConfig()), labelled(sizes=(4, 4))
    parts = []
    for index in (0, 1):
        atoms = slice(4 * index, 4 * index + 4)
        part = Structure.of(np.ones(4), batch.graph.positions[atoms].numpy(), 5.0, torch.float32)
        label = LabelledGraph(AtomGraph.collate([part]), batch.energy[index : index + 1], batch.forces[atoms])
        parts.append(objective.evaluate(guess, label))
    whole = objective.evaluate(guess, batch)
    for name, pair in whole.items():
        assert_close(parts[0][name] + parts[1][name], pair, rtol=1e-6, atol=0)


def test_every_parameter_learns_from_the_loss():
    torch.manual_seed(0)
    facts = {"species": [1], "reference_energies": [-2e4], "force_rms": 1.0, "mean_neighbours": 3.0}
    config = GauntPotentialConfig(channels=4, radial_hidden=8)
    model = GauntPotential.build(config, {"radial": {"name": "bessel"}}, facts).train()
    with torch.no_grad():
        model.readout_last.normal_()
    loss, metrics = EnergyForce(EnergyForceConfig())(model, labelled())
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert not any(pair.requires_grad for pair in metrics.values())


def test_evaluation_leaves_no_gradient():
    metrics = EnergyForce(EnergyForceConfig()).evaluate(guess, labelled())
    assert not any(pair.requires_grad for pair in metrics.values())


@pytest.mark.parametrize("params", [{"energy_weight": -1.0}, {"energy_weight": 0.0, "force_weight": 0.0}])
def test_weights_that_make_no_loss_are_refused(params):
    with pytest.raises(SettingError, match="_weight"):
        EnergyForceConfig(**params)


def test_moving_a_batch_keeps_energies_in_float64():
    moved = labelled().to(dtype=torch.float64)
    assert moved.forces.dtype == moved.graph.positions.dtype == moved.energy.dtype == torch.float64
