"""The calculator of ASE: what it says is what the model says, and ASE's own checks of forces and stress hold."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.optimize import BFGS

from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import CheckpointError, save_model
from equimodels.errors import SettingError
from equimodels.integrations.ase import EquimodelsCalculator

POTENTIAL = ModelDescription(
    "gaunt_potential",
    {"lmax": 1, "channels": 4, "layers": 2, "cutoff": 4.0, "radial_hidden": 8},
    {"radial": {"name": "bessel", "params": {"number": 6}}},
    {"species": [1, 6, 8], "reference_energies": [-13.6, -1029.5, -2042.0], "force_rms": 1.2, "mean_neighbours": 5.0},
)
FEATURES = ModelDescription(
    "diffusion_transformer",
    {"patch": 4, "dim": 16, "layers": 1, "heads": 1, "tap": 1},
    facts={"shape": [1, 8, 8], "mean": [0.0], "std": [1.0]},
)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = assemble(POTENTIAL)
    with torch.no_grad():
        model.readout_last.normal_()
    save_model(tmp_path / "model", model, POTENTIAL)
    return tmp_path / "model"


def crystal():
    """Of carbon, without symmetry."""
    atoms = bulk("C", cubic=True)
    atoms.rattle(0.1, seed=0)
    strain = np.array([[0.05, 0.02, 0], [0, -0.03, 0.01], [0, 0, 0.01]])
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def test_forces_and_stress_are_slopes_of_the_energy(saved):
    for atoms in (molecule("CH3CH2OH"), crystal()):
        atoms.calc = EquimodelsCalculator(saved, dtype="float64")
        slopes = calculate_numerical_forces(atoms, eps=1e-4)
        np.testing.assert_allclose(atoms.get_forces(), slopes, atol=1e-6 * np.abs(slopes).max())
    slopes = calculate_numerical_stress(atoms, eps=1e-4, voigt=True)
    np.testing.assert_allclose(atoms.get_stress(), slopes, atol=1e-6 * np.abs(slopes).max())


def test_a_molecule_relaxes_downhill(saved):
    atoms = molecule("CH3CH2OH")
    atoms.calc = EquimodelsCalculator(saved, dtype="float64")
    before, steepest = atoms.get_potential_energy(), np.abs(atoms.get_forces()).max()
    with BFGS(atoms, logfile=None) as optimizer:
        optimizer.run(fmax=0.05 * steepest, steps=50)
    assert atoms.get_potential_energy() < before
    assert np.abs(atoms.get_forces()).max() < steepest


def test_the_dtype_is_that_of_the_checkpoint_unless_said(saved):
    atoms, found = molecule("H2O"), {}
    for dtype in (None, "float64"):
        atoms.calc = EquimodelsCalculator(saved, dtype=dtype)
        found[dtype] = atoms.get_forces()
        assert atoms.get_forces().dtype == np.float64
    assert 0 < np.abs(found[None] - found["float64"]).max() < 1e-4 * np.abs(found["float64"]).max()


def test_what_does_not_repeat_everywhere_has_forces_and_no_stress(saved):
    atoms = molecule("H2O", vacuum=3.0)
    atoms.pbc = True, True, False
    atoms.calc = EquimodelsCalculator(saved)
    assert np.isfinite(atoms.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError, match="three directions"):
        atoms.get_stress()


def test_what_it_cannot_do_is_said(saved, tmp_path):
    with pytest.raises(CheckpointError, match="not a model folder"):
        EquimodelsCalculator(tmp_path)
    with pytest.raises(SettingError, match="float16"):
        EquimodelsCalculator(saved, dtype="float16")
    with pytest.raises(SettingError, match=r"\[79\]"):
        EquimodelsCalculator(saved).get_potential_energy(ase.Atoms("Au"))


def test_a_model_of_images_is_no_potential(tmp_path):
    save_model(tmp_path / "features", assemble(FEATURES), FEATURES)
    with pytest.raises(SettingError, match="potential"):
        EquimodelsCalculator(tmp_path / "features")
