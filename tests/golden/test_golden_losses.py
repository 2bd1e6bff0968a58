"""Twenty training steps of the smallest potential give, on the CPU, the losses written down in `losses.txt`.

Any change to the model, its initialisation, the loss or the order of a sum shows here first. After a change that is
meant to change the numbers: `python tests/golden/test_golden_losses.py` writes the file anew; say why in the commit.
The numbers belong to one build of torch on one kind of processor, both named in the file; elsewhere the matrix kernels
sum in another order, and the first five steps, before rounding has grown, are compared to 1e-4 instead of every bit.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_build import build_of_torch

from equimodels.models.gaunt_potential import GauntPotential, GauntPotentialConfig
from equimodels.models.graph import AtomGraph, Structure
from equimodels.objectives.energy_force import EnergyForce, EnergyForceConfig, LabelledGraph

LOSSES = Path(__file__).parent / "losses.txt"
STEPS = 20
CONFIG = GauntPotentialConfig(lmax=1, channels=4, layers=2, many_body_order=2, radial_hidden=8, readout_hidden=4)


def samples(count=4, atoms=5):
    """Random clusters under a Morse pair potential: exact labels without any data file."""
    random, made = np.random.default_rng(0), []
    for _ in range(count):
        lattice = np.array([[0, 0, 0], [1.3, 0, 0], [0, 1.3, 0], [0, 0, 1.3], [1.3, 1.3, 0]])[:atoms]
        x = lattice + random.normal(scale=0.1, size=(atoms, 3))
        apart = x[:, None] - x[None, :]
        r = np.linalg.norm(apart, axis=-1) + np.eye(atoms)
        decay = np.exp(-(r - 1.3)) * (1 - np.eye(atoms))
        energy = 0.5 * float((decay**2 - 2 * decay).sum()) - 13.6 * atoms
        slope = -2 * decay**2 + 2 * decay
        made.append((np.ones(atoms, dtype=np.int64), x, energy, -((slope / r)[:, :, None] * apart).sum(axis=1)))
    return made


def train():
    """The losses of the steps."""
    labelled = samples()
    facts = GauntPotential.gather_facts(CONFIG, labelled)
    torch.manual_seed(0)
    model = GauntPotential.build(CONFIG, {"radial": {"name": "bessel", "params": {"number": 4}}}, facts).train()
    objective = EnergyForce(EnergyForceConfig())
    parts = [Structure.of(numbers, x, CONFIG.cutoff, torch.float32) for numbers, x, _, _ in labelled]
    energy = torch.tensor([energy for _, _, energy, _ in labelled], dtype=torch.float64)
    forces = torch.tensor(np.concatenate([force for *_, force in labelled]), dtype=torch.float32)
    batch = LabelledGraph(AtomGraph.collate(parts), energy, forces)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss, _ = objective(model, batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def deterministic():
    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def written_down():
    head, *rows = LOSSES.read_text().splitlines()
    return head, [float.fromhex(row.split()[1]) for row in rows]


@pytest.mark.usefixtures("deterministic")
def test_the_losses_are_those_written_down():
    head, expected = written_down()
    found = train()
    if head == f"# {build_of_torch()}":
        assert found == expected
    else:
        assert found[:5] == pytest.approx(expected[:5], rel=1e-4)


@pytest.mark.usefixtures("deterministic")
def test_the_same_run_twice_is_the_same_bit_by_bit():
    assert train() == train()


def test_training_has_made_the_loss_smaller():
    _, losses = written_down()
    assert len(losses) == STEPS
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.5 * losses[0]


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    rows = [f"{step:2d} {loss.hex()} {loss:.6f}" for step, loss in enumerate(train())]
    LOSSES.write_text("\n".join([f"# {build_of_torch()}", *rows]) + "\n")
