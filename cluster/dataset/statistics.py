"""Figures about a dataset that one checks by eye before training on it.

Counts are over all rows; means and deviations over the training rows only (over all where there are
none), because a model may use them and must not know the others.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.dataset.schema import Kind, image_shape


def describe(table: pa.Table, kind: Kind) -> dict[str, Any]:
    """The statistics of a table of this kind, as JSON."""
    return structure_statistics(table) if kind == "structures" else image_statistics(table)


def structure_statistics(table: pa.Table) -> dict[str, Any]:
    """Elements and sizes; energy per atom (eV) and force components (eV/angstrom)."""
    if not table.num_rows:
        return {}
    sizes = _plain(pc.list_value_length(table["numbers"]))
    species, atoms = np.unique(_flat(table["numbers"]), return_counts=True)
    train = _training(table)
    per_atom = _plain(train["energy"]) / _plain(pc.list_value_length(train["numbers"]))
    forces = _flat(train["forces"])
    return {
        "species": species.tolist(),
        "atoms_by_species": {str(z): int(n) for z, n in zip(species, atoms, strict=True)},
        "atoms_per_structure": [int(sizes.min()), int(sizes.max())],
        "energy_per_atom_mean_eV": float(per_atom.mean()),
        "energy_per_atom_std_eV": float(per_atom.std()),
        "force_rms_eV_per_angstrom": float(np.sqrt(np.mean(np.square(forces)))),
        "force_mean_abs_eV_per_angstrom": float(np.mean(np.abs(forces))),
    }


def image_statistics(table: pa.Table) -> dict[str, Any]:
    """Shape, rows of each label, and mean and deviation of the pixels."""
    if not table.num_rows:
        return {}
    pixels = _flat(_training(table)["pixels"])
    labels, counts = np.unique(_plain(table["label"]), return_counts=True)
    return {
        "shape": list(image_shape(table.schema)),
        "pixel_mean": float(pixels.mean(dtype=np.float64)),
        "pixel_std": float(pixels.std(dtype=np.float64)),
        "classes": len(labels),
        "rows_by_label": {str(label): int(n) for label, n in zip(labels, counts, strict=True)},
    }


def _training(table: pa.Table) -> pa.Table:
    train = table.filter(pc.equal(table["split"], "train"))
    return train if train.num_rows else table


def _plain(column: pa.ChunkedArray) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values


def _flat(column: pa.ChunkedArray) -> NDArray[Any]:
    """All values of a column of lists, one after another."""
    return np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
