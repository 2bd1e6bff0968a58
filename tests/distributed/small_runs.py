"""Whole training runs of seconds, as a worker does them: a dataset on a store, reader, loop, engine, checkpoints.

Two tasks: the smallest potential on clusters under a Morse potential, the smallest diffusion transformer on smooth
patterns. `train` runs on the ranks of `ranks.py`, or in the test's own process as the only rank.
"""

import itertools
import math
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import torch
from tiny import structures

from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import images_schema
from cluster.store import open_store
from equimodels.objectives.energy_force import EnergyForce
from jobs.build import resolve
from jobs.checkpoints import open_checkpoint
from jobs.errors import PreemptedError
from jobs.spec.train import TrainSpec
from jobs.worker import Assignment, work

TRAIN, VALID = 22, 5  # neither is a multiple of a batch
MODELS = {
    "potential": {
        "data": {"uri": "datasets/clusters@1", "batch": {"structures": 4}},
        "model": {
            "name": "gaunt_potential",
            "params": {
                "lmax": 1,
                "channels": 4,
                "layers": 2,
                "many_body_order": 2,
                "radial_hidden": 8,
                "readout_hidden": 4,
            },
        },
        "embedding": {"radial": {"name": "bessel", "params": {"number": 4}}},
        "objective": {"name": "energy_force"},
    },
    "transformer": {
        "data": {"uri": "datasets/patterns@1", "batch": {"images": 4}},
        "model": {
            "name": "diffusion_transformer",
            "params": {"dim": 16, "layers": 2, "heads": 2, "patch": 2, "tap": 1, "time_features": 8},
        },
        "objective": {"name": "flow_matching"},
    },
}


def publish(folder):
    """The datasets, on a store in this folder; its address."""
    store = open_store(str(folder))
    split = ["train"] * TRAIN + ["valid"] * VALID
    names = [f"s{number:02d}" for number in range(TRAIN + VALID)]
    rows = [
        {
            "id": name,
            "numbers": numbers.tolist(),
            "positions": x.ravel().tolist(),
            "energy": energy,
            "forces": forces.ravel().tolist(),
            "group": name,
            "split": part,
        }
        for name, part, (numbers, x, energy, forces) in zip(names, split, structures(0, TRAIN + VALID), strict=True)
    ]
    publish_dataset(store, "clusters", pa.Table.from_pylist(rows), kind="structures", provenance={}, rows_per_shard=8)
    random = np.random.default_rng(0)
    waves = random.normal(size=(TRAIN + VALID, 4, 4)).cumsum(1).cumsum(2)
    pixels = (0.5 + 0.5 * np.tanh(waves)).reshape(-1, 16).tolist()
    columns = {"id": names, "pixels": pixels, "label": [0] * len(names), "group": names, "split": split}
    table = pa.table(columns, schema=images_schema((1, 4, 4)))
    publish_dataset(store, "patterns", table, kind="images", statistics={}, provenance={}, rows_per_shard=8)
    return store.uri


def spec(task, strategy, workers=1, **changes):
    """Ten steps on so many workers, or fewer."""
    base = {
        "spec_version": 1,
        "kind": "train",
        "name": task,
        **MODELS[task],
        "optimizer": {"params": {"lr": 5e-3}},
        "schedule": {"steps": 10, "warmup": 2, "eval_every": 5, "ema": 0.9, "posthoc_ema": [0.1]},
        "strategy": strategy,
        "resources": {"workers": {"min": 1, "max": workers}},
        "checkpoint": {"every_steps": 5},
    }
    return TrainSpec.model_validate(base).with_changes(changes)


class Noted:
    """A recorder that keeps everything, and asks to stop in step number `until`."""

    def __init__(self, until):
        self.until, self.losses, self.records, self.events = until, [], [], []

    def progressed(self, step, values):
        self.losses.append(values.get("loss", math.nan))

    def measured(self, step, values):
        self.records.append((step, {name: value for name, value in values.items() if name.startswith("valid/")}))

    def happened(self, step, what, details):
        self.events.append((step, what, details))

    def stop(self):
        return len(self.losses) + 1 == self.until


def task_of(store, wanted, run):
    """What a worker is told, of a run with this name."""
    return Assignment(store, run, 0, resolve(wanted, open_store(store)).to_json())


def train(world, task, until=None):
    """Train as one rank, to the end or until a request in the step after `until` others of this attempt.

    Returns the losses of this attempt, its evaluations and events (on the leading rank), and the outcome.
    """
    before = torch.get_num_threads()
    noted = Noted(until)
    try:
        outcome = work(task, world, recorder=noted, stop=noted.stop)
    except PreemptedError:
        outcome = None
    finally:
        torch.set_num_threads(before)
    return noted.losses, noted.records, noted.events, outcome and asdict(outcome)


def train_with_a_bad_batch(world, task, rank, call):
    """As `train`, where the loss of this rank's call number `call` (from 0) is no number."""
    calls, usual = itertools.count(), EnergyForce.__call__

    def spoiled(self, forward, batch, generator=None):
        loss, metrics = usual(self, forward, batch, generator)
        training = torch.is_grad_enabled()  # evaluations are not counted
        return (loss * math.nan if training and next(calls) == call and world.rank == rank else loss), metrics

    EnergyForce.__call__ = spoiled
    try:
        return train(world, task)
    finally:
        EnergyForce.__call__ = usual


def state(store, run, step=None):
    """Everything in a checkpoint: its notes, and slot -> parameter -> flattened tensor."""
    saved = open_checkpoint(open_store(store), run, step)
    sizes = {name: math.prod(shape) for name, shape in saved.shapes.items()}
    return saved.notes, {
        slot: {name: saved.find(slot, name, 0, size) for name, size in sizes.items() if size} for slot in saved.slots
    }
