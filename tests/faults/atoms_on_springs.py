"""Atoms on springs: a dataset that needs no labelling run, and the spec of a training run on it that takes seconds."""

from typing import Any

import numpy as np
import pyarrow as pa

from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import STRUCTURES
from cluster.store import Store

STEPS, COMMIT_EVERY = 400, 40

SPEC = f"""
spec_version: 1
kind: train
name: springs
seed: 3
data: {{uri: datasets/springs, batch: {{structures: 4}}}}
model: {{name: gaunt_potential, params: {{lmax: 1, channels: 4, layers: 1, cutoff: 3.0}}}}
embedding: {{radial: {{name: bessel, params: {{number: 4}}}}}}
objective: {{name: energy_force}}
schedule: {{steps: {STEPS}, warmup: 10, eval_every: {COMMIT_EVERY // 2}}}
strategy: {{kind: deepspeed, zero_stage: 1}}
resources: {{workers: 2}}
checkpoint: {{every_steps: {COMMIT_EVERY}}}
failure: {{max_restarts: 1}}
"""


def springs(rows: int, seed: int = 0) -> pa.Table:
    """Three atoms in a row, held together by springs: forces that belong to the energies, without a labelling run."""
    generator = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {name: [] for name in STRUCTURES.names}
    rest, strength = 1.2, 8.0  # angstrom, eV/angstrom^2
    for row in range(rows):
        positions = np.array([[0.0, 0, 0], [1.2, 0, 0], [2.4, 0, 0]]) + generator.normal(0, 0.1, (3, 3))
        forces, energy = np.zeros((3, 3)), -10.0
        for a, b in ((0, 1), (1, 2)):
            apart = positions[b] - positions[a]
            length = float(np.linalg.norm(apart))
            energy += strength / 2 * (length - rest) ** 2
            pull = strength * (length - rest) * apart / length
            forces[a] += pull
            forces[b] -= pull
        values = (f"s{row}", [8, 6, 8], positions.ravel().tolist(), energy, forces.ravel().tolist())
        split = "train" if row % 4 else ("valid" if row % 8 else "test")
        for name, value in zip(STRUCTURES.names, (*values, f"g{row}", split), strict=True):
            columns[name].append(value)
    return pa.table(columns, schema=STRUCTURES)


def publish_springs(store: Store) -> None:
    """48 of them, as datasets/springs@1."""
    publish_dataset(store, "springs", springs(48), kind="structures", statistics={}, provenance={"method": "springs"})
