"""What a published model says about each row, computed once and stored: teacher and latent features.

Images get a tensor column feature_<model>, (D,) float32: pooled features as the model gives them, not scaled to length
1. Structures get teacher_energy (eV) and teacher_forces (eV/angstrom). The fields name the model and its version.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cluster.registry import resolve
from cluster.store import Store
from jobs.prepare.step import Apply, Outcome, Rows, Step, StepSettings, Surroundings

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
    # Not at the top: torch and the models take seconds, which a worker that only filters need not spend.
    from jobs.prepare.taught import with_embedding, with_prediction
    from jobs.prepare.teacher import load_teacher

    teacher = load_teacher(surroundings.store, settings.model, surroundings.device)

    def apply(rows: Rows) -> Outcome:
        teacher.require(_USUAL[rows.kind])
        if rows.kind == "images":
            return Outcome(with_embedding(rows.table, teacher, settings.batch))
        return Outcome(with_prediction(rows.table, teacher, settings.batch))

    return apply


def pin(settings: FeatureSettings, store: Store) -> dict[str, str]:
    """The version that an alias means now. Raises NotFoundError."""
    return {"model": str(resolve(store, settings.model))}


FEATURES = Step(settings=FeatureSettings, make=make, lacking=lacking, pin=pin, slow=True)
