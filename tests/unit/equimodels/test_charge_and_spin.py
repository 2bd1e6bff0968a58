"""Charge and multiplicity of structures: part of the energy where a potential is told of them, and of nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from torch.testing import assert_close

from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import save_model
from equimodels.errors import SettingError
from equimodels.integrations.ase import EquimodelsCalculator
from equimodels.integrations.exported import save_exported
from equimodels.models.graph import AtomGraph, Structure

FACTS = {
    "species": [1, 6, 8],
    "reference_energies": [-13.6, -1029.5, -2042.0],
    "force_rms": 1.2,
    "mean_neighbours": 5.0,
}
NAMES = ["gaunt_potential", "attention_potential", "invariant_potential"]


def described(name, charge_spin):
    params = {"channels": 4, "layers": 1, "radial_hidden": 8, "charge_spin": charge_spin}
    return ModelDescription(name, params, {"radial": {"name": "bessel", "params": {"number": 6}}}, FACTS)


def made(name, charge_spin=True):
    torch.manual_seed(0)
    model = assemble(described(name, charge_spin)).double().eval()
    with torch.no_grad():
        model.readout_last.normal_()
    return model


def water(**state):
    atoms = molecule("H2O")
    return replace(Structure.of(atoms.numbers, atoms.positions, 5.0), **state)


STATES = [{}, {"charge": 1.0, "spin": 2}, {"charge": -1.0, "spin": 2}, {"spin": 3}]


@pytest.mark.parametrize("name", NAMES)
def test_each_state_has_an_energy_of_its_own_alone_and_in_company(name):
    model = made(name)
    together = model(AtomGraph.collate([water(**state) for state in STATES]))
    alone = [model(AtomGraph.collate([water(**state)])) for state in STATES]
    assert_close(together.energy, torch.cat([one.energy for one in alone]), rtol=1e-13, atol=0)
    assert_close(together.forces, torch.cat([one.forces for one in alone]), rtol=0, atol=1e-10)
    apart = (together.energy[:, None] - together.energy[None, :]).abs() + torch.eye(4)
    assert apart.min() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_potential_that_is_not_told_gives_the_same_for_all(name):
    energy = made(name, charge_spin=False)(AtomGraph.collate([water(**state) for state in STATES])).energy
    assert_close(energy, energy[:1].expand(4), rtol=1e-14, atol=0)


def test_neutral_singlets_cost_nothing():
    assert AtomGraph.collate([water(), water()]).state is None
    graph = AtomGraph.collate([water(), water(charge=2.0)]).to(dtype=torch.float32)
    assert graph.state.tolist() == [[0.0, 0.0], [2.0, 0.0]]
    assert graph.state.dtype == torch.float32
    with pytest.raises(ValueError, match="multiplicity of 0"):
        AtomGraph.collate([water(spin=0)])


def test_ase_says_them_in_info(tmp_path):
    torch.manual_seed(0)
    description = described("gaunt_potential", True)
    model = assemble(description)
    with torch.no_grad():
        model.readout_last.normal_()
    save_model(tmp_path, model, description)
    energies = []
    for state in STATES:
        atoms = molecule("H2O")
        atoms.info.update(state)
        atoms.calc = EquimodelsCalculator(tmp_path, dtype="float64")
        energies.append(atoms.get_potential_energy())
    expected = model.double().eval()(AtomGraph.collate([water(**state) for state in STATES])).energy
    np.testing.assert_allclose(energies, expected, rtol=1e-12)


def test_an_exported_program_is_not_told():
    with pytest.raises(SettingError, match="charge_spin"):
        save_exported(made("invariant_potential"), "never written")
