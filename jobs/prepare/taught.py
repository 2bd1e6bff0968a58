"""Columns of what a model says: features of images, energies and forces of structures."""

import numpy as np
import pyarrow as pa

from cluster.dataset.tensors import tensor_array, tensor_numpy
from jobs.data.forms.images import as_floats
from jobs.data.states import charges_and_spins
from jobs.ingest.columns import flat_values, list_lengths, lists
from jobs.prepare.step import placed
from jobs.prepare.teacher import Teacher


def with_embedding(table: pa.Table, teacher: Teacher, batch: int) -> pa.Table:
    """The images with a column of features."""
    pixels = tensor_numpy(table["pixels"])
    found = [teacher.embed(as_floats(pixels[at : at + batch])) for at in range(0, len(pixels), batch)]
    name = feature_column(teacher.reference)
    return placed(table, name, tensor_array(np.concatenate(found)), {"model": teacher.reference})


def with_prediction(table: pa.Table, teacher: Teacher, batch: int) -> pa.Table:
    """The structures with energies and forces of the teacher."""
    energies, forces = [], []
    for at in range(0, table.num_rows, batch):
        some = table.slice(at, batch)
        periodic = "pbc" in table.column_names
        energy, force = teacher.energy_forces(
            flat_values(some["numbers"]),
            flat_values(some["positions"]).reshape(-1, 3),
            list_lengths(some["numbers"]),
            tensor_numpy(some["cell"]) if periodic else None,
            tensor_numpy(some["pbc"]) if periodic else None,
            *(charges_and_spins(some) or ()),
        )
        energies.append(energy)
        forces.append(force)
    flat = lists(np.concatenate(forces).reshape(-1), 3 * list_lengths(table["numbers"]))
    model = {"model": teacher.reference}
    table = placed(table, "teacher_energy", pa.array(np.concatenate(energies)), {"unit": "eV", **model})
    meaning = "x, y, z of each atom in turn"
    return placed(table, "teacher_forces", flat, {"unit": "eV/angstrom", "meaning": meaning, **model})


def feature_column(reference: str) -> str:
    """The name of the column for the features of a model."""
    return f"feature_{reference.partition('@')[0]}"
