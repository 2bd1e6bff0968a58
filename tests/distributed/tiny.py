"""The smallest potential and the smallest diffusion transformer, their data, and steps of an engine on them.

A step has MICRO_BATCHES micro-batches, whatever the number of ranks, so its gradient is the same on any of them.
"""

import math

import numpy as np
import torch

from equimodels.models.diffusion_transformer import DiffusionTransformer, DiffusionTransformerConfig
from equimodels.models.gaunt_potential import GauntPotential, GauntPotentialConfig
from equimodels.models.graph import AtomGraph, Structure
from equimodels.objectives.energy_force import EnergyForce, EnergyForceConfig, LabelledGraph
from jobs.spec.train import TrainSpec
from jobs.strategy.build import make_engine

MICRO_BATCHES = 2
CPU = torch.device("cpu")
POTENTIAL = GauntPotentialConfig(lmax=1, channels=4, layers=2, many_body_order=2, radial_hidden=8, readout_hidden=4)
TRANSFORMER = DiffusionTransformerConfig(dim=16, layers=2, heads=2, patch=2, tap=1, time_features=8)


def spec(strategy=None, **parts):
    """A training spec of two workers at most."""
    given = {
        "spec_version": 1,
        "kind": "train",
        "name": "tiny",
        "data": {"uri": "datasets/none@1", "batch": {"samples": 2 * MICRO_BATCHES}},
        "model": {"name": "none"},
        "objective": {"name": "none"},
        "strategy": strategy or {},
        "resources": {"workers": {"min": 1, "max": MICRO_BATCHES}},
    }
    return TrainSpec.model_validate(given | parts)


def structures(seed, count=2, atoms=5):
    """Random clusters under a Morse pair potential: exact labels."""
    random, made = np.random.default_rng(seed), []
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


class Potential:
    """Energy and forces of the smallest potential."""

    def __init__(self, config=POTENTIAL):
        self.config, self.objective = config, EnergyForce(EnergyForceConfig())

    def model(self, seed=0):
        facts = GauntPotential.gather_facts(self.config, structures(0, count=4))
        torch.manual_seed(seed)
        embedding = {"radial": {"name": "bessel", "params": {"number": 4}}}
        return GauntPotential.build(self.config, embedding, facts).train()

    def loss(self, forward, step, micro_batch):
        labelled = structures(1000 * (step % 4) + micro_batch)
        parts = [Structure.of(numbers, x, self.config.cutoff, torch.float32) for numbers, x, _, _ in labelled]
        energy = torch.tensor([energy for _, _, energy, _ in labelled], dtype=torch.float64)
        forces = torch.tensor(np.concatenate([force for *_, force in labelled]), dtype=torch.float32)
        return self.objective(forward, LabelledGraph(AtomGraph.collate(parts), energy, forces))[0]


class Transformer:
    """Denoising with the smallest diffusion transformer: no second derivative."""

    def __init__(self, config=TRANSFORMER):
        self.config = config

    def model(self, seed=0):
        torch.manual_seed(seed)
        images = [np.random.default_rng(n).random((1, 4, 4), dtype=np.float32) for n in range(4)]
        model = DiffusionTransformer.build(self.config, {}, DiffusionTransformer.gather_facts(self.config, images))
        model.redraw_zero_init()
        return model.train()

    def loss(self, forward, step, micro_batch):
        source = torch.Generator().manual_seed(1000 * (step % 4) + micro_batch)
        x, t = torch.randn(2, 1, 4, 4, generator=source), torch.rand(2, generator=source)
        return (forward(x, t) - x.flip(2)).square().mean()


def engine(task, world, wanted, seed=0):
    """The engine of a spec around the model of a task, as a worker makes it."""
    return make_engine(task.model(seed), wanted, world, CPU)


def train(made, task, world, steps, lr=1e-3, limit=math.inf):
    """Take steps number `steps`; the losses, averaged over all micro-batches, and the norms."""
    losses, norms, share = [], [], MICRO_BATCHES // world.size
    for step in steps:
        total = torch.zeros(1, dtype=torch.float64)
        for n in range(share):
            loss = task.loss(made.forward, step, world.rank * share + n)
            made.backward(loss, last=n == share - 1)
            total += loss.item() / MICRO_BATCHES
        losses.append(world.sum({"loss": total})["loss"].item())
        norms.append(made.step(lr, limit=limit))
    return losses, norms


def state(made, world):
    """The whole state, put together from the pieces of all ranks: slot -> parameter -> flattened tensor.

    Fails where pieces overlap or leave something out.
    """
    found, shapes = {}, made.shapes()
    held = {"value": made.values(), **made.moments()}
    for pieces in world.gather(
        {slot: {n: (p.start, p.values.clone()) for n, p in of.items()} for slot, of in held.items()}
    ):
        for slot, of in pieces.items():
            for name, (start, values) in of.items():
                size = math.prod(shapes[name])
                whole = found.setdefault(slot, {}).setdefault(name, torch.full((size,), torch.nan, dtype=values.dtype))
                assert start + len(values) <= size, f"{slot} of {name} goes beyond its end"
                assert whole[start : start + len(values)].isnan().all(), f"{slot} of {name} overlaps"
                whole[start : start + len(values)] = values
    for slot, of in found.items():
        for name, whole in of.items():
            assert not whole.isnan().any(), f"{slot} of {name} has holes"
    assert {n for n, shape in shapes.items() if math.prod(shape)} <= set(found["value"])
    return found


def finder(saved):
    """A saved state, as an engine reads it."""
    return lambda slot, name, start, stop: saved[slot][name][start:stop].clone()


def difference(one, other):
    """The largest difference between two states' slots of values."""
    return max(float((one["value"][n] - other["value"][n]).abs().max()) for n in one["value"] if len(one["value"][n]))
