"""What a published model says about each row, computed once and stored: teacher and latent features.

Images get a tensor column feature_<model>, (D,) float32: pooled features as the model gives them, not scaled to length
1. Structures get teacher_energy (eV) and teacher_forces (eV/angstrom). The fields name the model and its version.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from cluster.dataset.tensors import tensor_array, tensor_numpy
from cluster.registry import resolve
from cluster.store import Store
from jobs.data.forms.images import as_floats
from jobs.ingest.columns import flat_values, list_lengths, lists
from jobs.prepare.step import Apply, Outcome, Rows, Step, StepSettings, Surroundings, placed
from jobs.prepare.teacher import Teacher, load_teacher

if TYPE_CHECKING:
    from cluster.dataset.schema import Kind

_USUAL: "dict[str, Literal['embedding', 'prediction']]" = {"images": "embedding", "structures": "prediction"}


class FeatureSettings(StepSettings):
    """Which model, and how many rows it is given at a time."""

    model: str  # "digits@prod"; an alias is followed when the run begins
    what: Literal["embedding", "prediction"] | None = None  # without: embedding of images, prediction of structures
    batch: int = Field(default=64, ge=1)  # rows a call


def lacking(settings: FeatureSettings, kind: "Kind", columns: frozenset[str]) -> str | None:
    """Images have embeddings, structures have predictions."""
    usual = _USUAL.get(kind)
    if usual is None:
        return f"no model gives features of a dataset of {kind}"
    if settings.what not in (None, usual):
        return f"models give the {usual} of {kind}, not the {settings.what}"
    return None


def make(settings: FeatureSettings, surroundings: Surroundings) -> Apply:
    """Loads the model. Raises NotFoundError, and UserError for a model of another task."""
    # Imported models and torch are what makes this slow to begin: once a worker, not once a row group.
    teacher = load_teacher(surroundings.store, settings.model, surroundings.device)

    def apply(rows: Rows) -> Outcome:
        teacher.require(_USUAL[rows.kind])
        if rows.kind == "images":
            return Outcome(with_embedding(rows.table, teacher, settings.batch))
        return Outcome(with_prediction(rows.table, teacher, settings.batch))

    return apply


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


def pin(settings: FeatureSettings, store: Store) -> dict[str, str]:
    """The version that an alias means now. Raises NotFoundError."""
    return {"model": str(resolve(store, settings.model))}


FEATURES = Step(settings=FeatureSettings, make=make, lacking=lacking, pin=pin, slow=True)
