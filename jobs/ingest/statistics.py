"""What a manifest says about its rows: figures a reader checks by eye before training on them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def structure_statistics(table: pa.Table) -> dict[str, Any]:
    """Counts over all rows; energies (eV) and forces (eV/angstrom) over the training rows only."""
    numbers = table["numbers"].to_pylist()
    train = table.filter(pc.equal(table["split"], "train"))
    counts = {
        "species": sorted({z for row in numbers for z in row}),
        "atoms_per_structure": [min(map(len, numbers)), max(map(len, numbers))],
    }
    if not len(train):
        return counts
    atoms = np.array([len(row) for row in train["numbers"].to_pylist()], dtype=np.float64)
    energies = train["energy"].to_numpy()
    forces = train["forces"].combine_chunks().flatten().to_numpy()
    return counts | {
        "energy_per_atom_mean_eV": float(np.mean(energies / atoms)),
        "energy_per_atom_std_eV": float(np.std(energies / atoms)),
        "force_rms_eV_per_angstrom": float(np.sqrt(np.mean(forces**2))),
        "force_mean_abs_eV_per_angstrom": float(np.mean(np.abs(forces))),
    }


def image_statistics(table: pa.Table) -> dict[str, Any]:
    """Mean and standard deviation over the training pixels, rows of each label over all rows."""
    train = table.filter(pc.equal(table["split"], "train"))
    pixels = train["pixels"].combine_chunks().flatten().to_numpy()
    labels, counts = np.unique(table["label"].to_numpy(), return_counts=True)
    return {
        "pixel_mean": float(pixels.mean(dtype=np.float64)),
        "pixel_std": float(pixels.std(dtype=np.float64)),
        "rows_by_label": {str(label): int(count) for label, count in zip(labels, counts, strict=True)},
    }
