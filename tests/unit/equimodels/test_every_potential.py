"""What holds for every registered potential beyond the contract: it is built by name, learns, and is saved whole."""

import numpy as np
import pytest
import torch

from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import load_model, save_model
from equimodels.components import models
from equimodels.errors import SettingError
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.potential import Potential
from equimodels.objectives.energy_force import EnergyForce, EnergyForceConfig, LabelledGraph

SMALL = {
    "gaunt_potential": {"channels": 4, "lmax": 1, "radial_hidden": 8},
    "invariant_potential": {"channels": 8, "layers": 2, "radial_hidden": 8},
    "attention_potential": {"channels": 4, "heads": 2, "radial_hidden": 8},
}
EMBEDDING = {"radial": {"name": "bessel", "params": {"number": 5}}}


def clusters(count, seed=0):
    """Five atoms each, of two species, with the energies and forces of Morse pairs."""
    random, made = np.random.default_rng(seed), []
    square = np.array([[0, 0, 0], [1.3, 0, 0], [0, 1.3, 0], [0, 0, 1.3], [1.3, 1.3, 0]])
    for _ in range(count):
        x, numbers = square + random.normal(scale=0.1, size=(5, 3)), np.array([1, 1, 6, 6, 1])
        apart = x[:, None] - x[None, :]
        r = np.linalg.norm(apart, axis=-1) + np.eye(5)
        decay, depth = np.exp(-(r - 1.3)) * (1 - np.eye(5)), np.sqrt(numbers[:, None] * numbers[None, :])
        energy = 0.5 * float((depth * (decay**2 - 2 * decay)).sum()) - 13.6 * 5
        slope = depth * (2 * decay - 2 * decay**2)
        made.append((numbers, x, energy, -((slope / r)[:, :, None] * apart).sum(axis=1)))
    return made


def batch(labelled, dtype=torch.float32):
    parts = [Structure.of(numbers, x, 5.0, dtype) for numbers, x, _, _ in labelled]
    energy = torch.tensor([energy for _, _, energy, _ in labelled], dtype=torch.float64)
    forces = torch.from_numpy(np.concatenate([force for *_, force in labelled])).to(dtype)
    return LabelledGraph(AtomGraph.collate(parts), energy, forces)


def described(name):
    config = models.find(name).config(**SMALL[name])
    return ModelDescription(name, SMALL[name], EMBEDDING, models.find(name).target.gather_facts(config, clusters(4)))


def test_this_list_is_whole():
    ours = {name for name in models.names() if issubclass(models.find(name).target, Potential)}
    assert ours == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_potential_learns_energies_and_forces(name):
    torch.manual_seed(0)
    model, objective = assemble(described(name)).train(), EnergyForce(EnergyForceConfig(force_weight=10.0))
    training, optimiser = batch(clusters(8)), torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = objective(model, training)[0]
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[-1] < 0.1 * losses[0]
    fresh = objective.evaluate(model.eval(), batch(clusters(8, seed=1)))
    error, size = (float(fresh[key][0] / fresh[key][1]) for key in ("force_mae", "force_mean_abs"))
    assert error < 0.5 * size


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = assemble(described(name)).train()
    with torch.no_grad():
        model.readout_last.normal_()
    EnergyForce(EnergyForceConfig())(model, batch(clusters(2)))[0].backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", SMALL)
def test_a_saved_potential_is_the_same_bit_by_bit(name, tmp_path):
    torch.manual_seed(0)
    model, graph = assemble(described(name)).double().eval(), batch(clusters(2), torch.float64).graph
    save_model(tmp_path / "model", model, described(name))
    for found, expected in zip(load_model(tmp_path / "model")(graph), model(graph), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", SMALL)
def test_a_lonely_atom_has_an_energy_and_no_force_and_a_strange_one_is_refused(name):
    model = assemble(described(name)).eval()
    energy, forces = model(AtomGraph.collate([Structure.of(np.array([6]), np.zeros((1, 3)), 5.0)]))
    assert energy.isfinite().all()
    assert not forces.any()
    with pytest.raises(SettingError, match=r"\[7\].*\[1, 6\]"):
        model(AtomGraph.collate([Structure.of(np.array([7]), np.zeros((1, 3)), 5.0)]))


@pytest.mark.parametrize(
    ("name", "params", "field"),
    [
        ("invariant_potential", {"layers": 0}, "layers"),
        ("invariant_potential", {"chanels": 3}, "channels"),
        ("attention_potential", {"heads": 3}, "heads"),
        ("attention_potential", {"lmax": 7}, "lmax"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name, params, field):
    with pytest.raises(SettingError, match=field):
        assemble(ModelDescription(name, params, EMBEDDING, described(name).facts))


def test_deep_attention_starts_at_one_size():
    """Forces of fresh weights: of four layers and high degree they were a thousand times those of the data."""
    labelled = clusters(8)
    config = models.find("attention_potential").config(channels=16, heads=4, lmax=3, layers=4)
    facts = models.find("attention_potential").target.gather_facts(config, labelled)
    potential = models.find("attention_potential").target(config, embedding=EMBEDDING, facts=facts)
    with torch.no_grad():
        potential.readout_last.normal_()
    given = batch(labelled)
    forces = potential.eval()(given.graph).forces
    assert 0.05 < float(forces.square().mean().sqrt() / given.forces.square().mean().sqrt()) < 20
