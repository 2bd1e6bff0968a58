"""A potential as one file: what it says is what the model says, for any number of atoms and edges."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from torch.testing import assert_close

from equimodels.assemble import ModelDescription, assemble
from equimodels.errors import SettingError
from equimodels.integrations.exported import load_exported, save_exported
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.stress import with_stress

FACTS = {
    "species": [1, 6, 8],
    "reference_energies": [-13.6, -1029.5, -2042.0],
    "force_rms": 1.2,
    "mean_neighbours": 5.0,
}
SMALL = {
    "gaunt_potential": {"lmax": 1, "channels": 4, "layers": 2, "repulsion": True},
    "attention_potential": {"lmax": 1, "channels": 4, "heads": 2},
    "invariant_potential": {"channels": 4, "layers": 2},
}


def made(name):
    torch.manual_seed(0)
    params = {**SMALL[name], "cutoff": 4.0, "radial_hidden": 8}
    model = assemble(ModelDescription(name, params, {"radial": {"name": "bessel", "params": {"number": 6}}}, FACTS))
    with torch.no_grad():
        model.readout_last.normal_()
    return model.double().eval()


def structures():
    crystal = bulk("C", cubic=True)
    crystal.rattle(0.1, seed=0)
    for atoms in (molecule("CH3CH2OH"), molecule("H2O"), crystal):
        cell = {"cell": atoms.cell.array} if atoms.pbc.all() else {}
        yield Structure.of(atoms.numbers, atoms.positions, 4.0, **cell), float(atoms.get_volume()) if cell else 1.0


@pytest.mark.parametrize("name", SMALL)
def test_the_file_says_what_the_model_says(name, tmp_path):
    model = made(name)
    save_exported(model, tmp_path / "model.pt2")
    loaded = load_exported(tmp_path / "model.pt2")
    assert (loaded.species, loaded.cutoff, loaded.dtype) == ((1, 6, 8), 4.0, torch.float64)
    for structure, volume in structures():
        energy, forces, virial = loaded(structure)
        expected = with_stress(model, AtomGraph.collate([structure]), torch.tensor([volume], dtype=torch.float64))
        assert_close(energy, float(expected.energy), rtol=1e-14, atol=0)
        assert_close(forces, expected.forces, rtol=0, atol=1e-9)
        assert_close(virial / volume, expected.stress[0], rtol=0, atol=1e-9)


def test_what_it_does_not_know_is_refused(tmp_path):
    save_exported(made("invariant_potential"), tmp_path / "model.pt2")
    with pytest.raises(SettingError, match=r"\[79\]"):
        load_exported(tmp_path / "model.pt2")(Structure.of(np.array([79, 1]), np.eye(3)[:2], 4.0))
