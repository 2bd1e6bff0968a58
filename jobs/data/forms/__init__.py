"""Forms: what the rows of each kind of dataset become on their way to a model."""

from jobs.data.forms.form import Form
from jobs.data.forms.images import ImageForm
from jobs.data.forms.plain import PlainForm
from jobs.data.forms.structures import StructureForm

__all__ = ["Form", "ImageForm", "PlainForm", "StructureForm", "form_of"]


def form_of(kind: str, *, cutoff: float | None = None) -> Form:
    """The form of a kind of dataset. cutoff: angstrom, of the neighbours of structures; None for no edges."""
    if kind == "structures":
        return StructureForm(cutoff=cutoff)
    return ImageForm() if kind == "images" else PlainForm()
