"""Every preset of every potential is a model that trains: one step on two atoms, in the double backward of training."""

import numpy as np
import pytest
import torch

from equimodels.assemble import ModelDescription, assemble
from equimodels.models.graph import AtomGraph, Structure
from equimodels.objectives.energy_force import EnergyForce, EnergyForceConfig, LabelledGraph
from equimodels.presets import PRESETS

FACTS = {"species": [1, 8], "reference_energies": [-13.6, -2042.0], "force_rms": 1.2, "mean_neighbours": 15.0}
EMBEDDING = {"radial": {"name": "bessel", "params": {"number": 8}}}


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name, sizes in PRESETS.items() for preset in sizes])
def test_every_preset_takes_a_step_on_two_atoms(name, preset):
    torch.manual_seed(0)
    model = assemble(ModelDescription(name, dict(PRESETS[name][preset]), EMBEDDING, FACTS)).train()
    pair = Structure.of(np.array([8, 1]), np.array([[0.0, 0.0, 0.0], [0.6, 0.7, 0.2]]), 5.0, torch.float32)
    forces = torch.tensor([[0.5, 0.4, 0.1], [-0.5, -0.4, -0.1]])
    batch = LabelledGraph(AtomGraph.collate([pair]), torch.tensor([-2056.0], dtype=torch.float64), forces)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    before = model(batch.graph)
    loss, _ = EnergyForce(EnergyForceConfig())(model, batch)
    loss.backward()
    optimizer.step()
    after = model(batch.graph)
    assert loss.isfinite()
    assert all(p.isfinite().all() and p.grad.isfinite().all() for p in model.parameters())
    assert after.forces.isfinite().all()
    assert not torch.equal(after.forces, before.forces)
    assert not torch.equal(after.energy, before.energy)
