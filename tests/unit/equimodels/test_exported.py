"""A potential as one file: what it says is what the model says, for any number of atoms and edges."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from torch.testing import assert_close

from equimodels.assemble import ModelDescription, assemble
from equimodels.errors import SettingError
from equimodels.integrations.compiled import save_compiled
from equimodels.integrations.exported import load_exported, save_exported
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.stress import with_stress

# Importing Inductor makes torch use its own deprecated compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

FACTS = {
    "species": [1, 6, 8],
    "reference_energies": [-13.6, -1029.5, -2042.0],
    "force_rms": 1.2,
    "mean_neighbours": 5.0,
}
SMALL = {
    "gaunt_potential": {"lmax": 1, "channels": 4, "layers": 2, "antisymmetric": True, "repulsion": True},
    "attention_potential": {"lmax": 1, "channels": 4, "heads": 2},
    "invariant_potential": {"channels": 4, "layers": 2},
}
# Where nothing of ours can be imported and no compiler is found.
WITH_TORCH_ALONE = """
import sys, torch
torch.set_num_threads(2)
program = torch._inductor.aoti_load_package(sys.argv[1])
torch.save([program(*given) for given in torch.load(sys.argv[2])], sys.argv[3])
assert "equimodels" not in sys.modules
"""


def made(name, dtype=torch.float64):
    torch.manual_seed(0)
    params = {**SMALL[name], "cutoff": 4.0, "radial_hidden": 8}
    model = assemble(ModelDescription(name, params, {"radial": {"name": "bessel", "params": {"number": 6}}}, FACTS))
    with torch.no_grad():
        model.readout_last.normal_()
    return model.to(dtype).eval()


def structures():
    """With their volumes: molecules, crystals, one of a single atom, and an atom that no other reaches."""
    crystal = bulk("C", cubic=True)
    crystal.rattle(0.1, seed=0)
    for atoms in (molecule("CH3CH2OH"), molecule("H2O"), crystal, bulk("C", "fcc", a=2.6), molecule("O")):
        cell = {"cell": atoms.cell.array} if atoms.pbc.all() else {}
        yield Structure.of(atoms.numbers, atoms.positions, 4.0, **cell), float(atoms.get_volume()) if cell else 1.0


def expected(model, structure, volume):
    """Energy, forces and virial of the model."""
    graph = AtomGraph.collate([structure]).to(dtype=model.embed.dtype)
    found = with_stress(model, graph, torch.tensor([volume], dtype=torch.float64))
    return float(found.energy), found.forces, found.stress[0] * volume


def check(found, wanted, dtype):
    """Energy, forces and virial to the rounding of the largest number among them but for the references."""
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    most = max(1.0, *(float(other.abs().max()) for other in wanted[1:]))
    assert found[0] == pytest.approx(wanted[0], rel=0, abs=tolerance * most)
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert not one.requires_grad
        assert_close(one, other, rtol=0, atol=tolerance * most)


@pytest.mark.parametrize("name", SMALL)
def test_the_file_says_what_the_model_says(name, tmp_path):
    model = made(name)
    save_exported(model, tmp_path / "model.pt2")
    loaded = load_exported(tmp_path / "model.pt2")
    assert (loaded.species, loaded.cutoff, loaded.dtype) == ((1, 6, 8), 4.0, torch.float64)
    for structure, volume in structures():
        check(loaded(structure), expected(model, structure, volume), torch.float64)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("gaunt_potential", torch.float64),
        ("attention_potential", torch.float32),
        ("invariant_potential", torch.float32),
    ],
)
def test_compiled_it_says_the_same_and_needs_torch_alone(name, dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    model, file = made(name, dtype), tmp_path / "model.pt2"
    save_compiled(model, file)
    loaded = load_exported(file)
    assert (loaded.species, loaded.cutoff, loaded.dtype) == ((1, 6, 8), 4.0, dtype)
    wanted = [expected(model, *each) for each in structures()]
    for (structure, _), each in zip(structures(), wanted, strict=True):
        check(loaded(structure), each, dtype)

    torch.save([_inputs(structure, dtype) for structure, _ in structures()], tmp_path / "given")
    script = tmp_path / "alone.py"
    script.write_text(WITH_TORCH_ALONE)
    environment = {**os.environ, "PATH": "", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, script, file, tmp_path / "given", tmp_path / "found"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=120)
    for (energy, *rest), each in zip(torch.load(tmp_path / "found"), wanted, strict=True):
        check((float(energy), *rest), each, dtype)

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(SettingError, match="which the file was compiled for"):
        load_exported(file)


def _inputs(structure, dtype):
    """What the program is called with."""
    kind = torch.searchsorted(torch.tensor([1, 6, 8]), structure.numbers)
    positions = structure.positions.to(dtype)
    shifts = positions.new_zeros(structure.edges.shape[1], 3) if structure.shifts is None else structure.shifts
    return kind, positions, structure.edges, shifts.to(dtype)


def test_what_it_does_not_know_is_refused(tmp_path):
    save_exported(made("invariant_potential"), tmp_path / "model.pt2")
    with pytest.raises(SettingError, match=r"\[79\]"):
        load_exported(tmp_path / "model.pt2")(Structure.of(np.array([79, 1]), np.eye(3)[:2], 4.0))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "thesis.pt2").write_text("not a program")
    other = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(other, tmp_path / "other.pt2")
    for name in ("thesis.pt2", "other.pt2"):
        with pytest.raises(SettingError, match="a file of `save_exported` or `save_compiled`, version 1"):
            load_exported(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_exported(tmp_path / "nothing.pt2")


def test_without_a_compiler_nothing_is_compiled(tmp_path):
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(SettingError, match="CXX is 'no-such-compiler'; allowed: a C\\+\\+ compiler"),
    ):
        save_compiled(made("invariant_potential"), tmp_path / "model.pt2")
    with pytest.raises(SettingError, match=r"ends in \.pt2"):
        save_compiled(made("invariant_potential"), tmp_path / "model")
    assert not list(tmp_path.iterdir())
