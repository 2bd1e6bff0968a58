"""Data that any machine can make again: structures of realistic density, images of realistic sparsity.

Shapes: n structures, N atoms of them all. Angstrom, eV.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.publish import publish_dataset
from cluster.dataset.tensors import tensor_array
from cluster.store import Store

SMALLEST, LARGEST = 16, 47  # atoms; the mean is 31.5
_SPACING, _JITTER = 2.15, 0.3  # angstrom: a tenth of an atom in each cubic angstrom, as in organic molecules
_PROVENANCE = {"by": "benchmarks/synthetic.py"}
_ELEMENTS = np.array([1, 6, 7, 8], dtype=np.uint8)


class Sample(NamedTuple):
    """One structure of a atoms."""

    numbers: NDArray[np.uint8]  # (a,)
    positions: NDArray[np.float64]  # (a, 3)
    energy: float
    forces: NDArray[np.float64]  # (a, 3)


@dataclass(frozen=True)
class Structures:
    """offsets: (n + 1,); numbers: (N,); positions, forces: (N, 3); energy: (n,)."""

    offsets: NDArray[np.int64]
    numbers: NDArray[np.uint8]
    positions: NDArray[np.float64]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, row: int) -> Sample:
        atoms = slice(self.offsets[row], self.offsets[row + 1])
        return Sample(self.numbers[atoms], self.positions[atoms], float(self.energy[row]), self.forces[atoms])

    def __iter__(self) -> Iterator[Sample]:
        return (self[row] for row in range(len(self)))


def structures(count: int, *, seed: int = 0, sizes: NDArray[np.int64] | None = None) -> Structures:
    """Blobs of atoms on a jittered grid, 16 to 47 of them unless `sizes` (n,) are given."""
    random = np.random.default_rng(seed)
    sizes = random.integers(SMALLEST, LARGEST + 1, count) if sizes is None else sizes
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    reach = np.arange(-8, 9)
    grid = _SPACING * np.stack(np.meshgrid(reach, reach, reach), axis=-1).reshape(-1, 3)
    nearest = grid[np.argsort(np.linalg.norm(grid, axis=1), kind="stable")]
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)  # of each atom in its structure
    return Structures(
        offsets=offsets,
        numbers=random.choice(_ELEMENTS, offsets[-1]),
        positions=nearest[places] + random.normal(0, _JITTER, (offsets[-1], 3)),
        energy=random.normal(-4000, 10, count),
        forces=random.normal(0, 1, (offsets[-1], 3)),
    )


def structures_table(found: Structures) -> pa.Table:
    """The structures as rows of a dataset, all of them for training."""
    atoms = pa.array(found.offsets.astype(np.int32))
    numbers_of = pa.array((3 * found.offsets).astype(np.int32))
    count = len(found)
    return pa.table(
        {
            "id": [f"s{row:07d}" for row in range(count)],
            "numbers": pa.ListArray.from_arrays(atoms, pa.array(found.numbers)),
            "positions": pa.ListArray.from_arrays(numbers_of, pa.array(found.positions.ravel())),
            "energy": found.energy,
            "forces": pa.ListArray.from_arrays(numbers_of, pa.array(found.forces.ravel())),
            "group": [f"s{row:07d}" for row in range(count)],
            "split": ["train"] * count,
        }
    )


def publish_structures(store: Store, found: Structures, *, held_out: int = 0) -> Any:
    """The structures as dataset `structures` of the store; returns its manifest.

    held_out: how many are for validation, and how many for testing.
    """
    table = structures_table(found)
    split = ["valid"] * held_out + ["test"] * held_out + ["train"] * (len(found) - 2 * held_out)
    table = table.set_column(table.schema.get_field_index("split"), "split", [split])
    return publish_dataset(store, "structures", table, kind="structures", provenance={"by": "benchmark"})


def images(count: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64], str]:
    """Pixels (n, 1, 28, 28), labels (n,), and where they are from: MNIST where EQUI_BENCH_DATA has it."""
    folder = os.environ.get("EQUI_BENCH_DATA")
    path = Path(folder) / "mnist" / "mnist.npz" if folder else None
    if path and path.exists():
        with np.load(path, allow_pickle=False) as stored:
            pixels, labels = stored["x_train"][:count], stored["y_train"][:count]
        return np.ascontiguousarray(pixels[:, None]), labels.astype(np.int64), "MNIST"
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    pixels *= random.random((count, 1, 28, 28)) < 0.19  # of MNIST's pixels so many are not black
    return pixels, random.integers(0, 10, count), "random bytes, as sparse as MNIST"


def publish_images(store: Store, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> Any:
    """The images as dataset `images` of the store; returns its manifest."""
    names = [f"i{row:07d}" for row in range(len(pixels))]
    columns = {
        "id": names,
        "pixels": tensor_array(pixels),
        "label": labels,
        "group": names,
        "split": ["train"] * len(names),
    }
    return publish_dataset(store, "images", pa.table(columns), kind="images", provenance={"by": "benchmark"})
