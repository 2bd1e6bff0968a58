"""Samples as plain arrays, in the form that a model's `gather_facts` reads, a row group at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cluster.dataset.dataset import Dataset
from jobs.data.forms import Form, form_of
from jobs.data.forms.images import as_floats
from jobs.data.rows import Rows

# Scales and reference energies do not get better by more; every sample here costs Python.
MOST = 65_536


def training_facts(dataset: Dataset) -> Iterator[Any]:
    """Training samples, `MOST` at most, from row groups spread evenly over the split.

    Structures: (numbers (n,), positions (n, 3) angstrom, energy eV, forces (n, 3) eV/angstrom), and cell (3, 3) and
    pbc (3,) where the dataset has them. Images: pixels
    (C, H, W), bytes from 0 to 1.
    """
    form = form_of(dataset.manifest.kind)
    index = dataset.groups("train")
    total = int(index.rows.sum())
    every = max(1, -(-total // MOST))
    for group in range(0, len(index.rows), every):
        rows = _decoded(dataset, form, int(index.number[group]))
        rows = rows.slice(int(index.skip[group]), int(index.skip[group] + index.rows[group]))
        yield from _structures(rows) if dataset.manifest.kind == "structures" else as_floats(rows["pixels"].values)


def _decoded(dataset: Dataset, form: Form, number: int) -> Rows:
    return form.decode(dataset.read_group(number, form.columns(dataset.schema)))


def _structures(rows: Rows) -> Iterator[tuple[Any, ...]]:
    offsets = rows["numbers"].offsets
    assert offsets is not None
    parts = [np.split(rows[name].values, offsets[1:-1]) for name in ("numbers", "positions", "forces")]
    lattices = [rows[name].values for name in ("cell", "pbc") if name in rows]
    for numbers, positions, forces, energy, *lattice in zip(*parts, rows["energy"].values, *lattices, strict=True):
        yield numbers.astype(np.int64), positions, float(energy), forces, *lattice
