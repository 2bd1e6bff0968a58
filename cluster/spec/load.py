"""From a spec file to a spec that can be submitted: read, checked against its schema, checked by its kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.front_door import KINDS
from cluster.spec.complaints import Complaint, Surroundings
from cluster.spec.document import Document, read_document
from cluster.spec.problems import Problem, SpecError, dotted
from cluster.spec.validate import validate, what_fits
from cluster.spec.wording import describe, did_you_mean

if TYPE_CHECKING:
    from cluster.store import Store

VERSION = 1  # of the specs this version of Equimodels reads


@dataclass(frozen=True)
class LoadedSpec:
    """A valid spec: the name of its kind, the model instance, and the text it was read from."""

    kind: str
    spec: Any
    document: Document

    def resolved(self) -> dict[str, Any]:
        """The whole spec as JSON, every default written out: what a run stores and starts from."""
        data: dict[str, Any] = self.spec.model_dump(mode="json", by_alias=True)
        return data


def load_spec(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    store: "Store | None" = None,
    capacity: Mapping[str, float] | None = None,
) -> LoadedSpec:
    """Read, override and check a spec file.

    store, capacity: given, the kind's check also looks whether what the spec names exists and fits.
    Raises SpecError with every problem at once, UserError for a file that cannot be read.
    """
    return check_document(read_document(path, overrides), store=store, capacity=capacity)


def check_document(
    document: Document, *, store: "Store | None" = None, capacity: Mapping[str, float] | None = None
) -> LoadedSpec:
    """The same for a document that is in hand already."""
    name = _kind(document)
    kind = KINDS[name]
    surroundings = Surroundings(store, capacity, document.folder)
    try:
        spec = validate(document, kind.model())
    except SpecError as error:
        rest = what_fits(document, kind.model())
        complaints = kind.complaints(rest[0], surroundings) if rest else []
        # A default stands where something was taken out: what it leads to is not the user's doing.
        own = [c for c in complaints if rest and not any(c.path[: len(path)] == path for path in rest[1])]
        raise SpecError([*error.problems, *(_problem(complaint, document) for complaint in own)]) from None
    problems = [_problem(complaint, document) for complaint in kind.complaints(spec, surroundings)]
    if problems:
        raise SpecError(problems)
    return LoadedSpec(name, spec, document)


def _kind(document: Document) -> str:
    """The kind a document says it is. Raises SpecError where nothing else can be judged for lack of it."""
    problems = list(document.problems)
    if not document.data and problems:
        raise SpecError(problems)
    kind, version = document.data.get("kind"), document.data.get("spec_version")
    if not isinstance(kind, str) or kind not in KINDS:
        found = f"found {describe(kind)}{did_you_mean(str(kind), KINDS)}"
        message = found if "kind" in document.data else "is missing"
        problems.append(Problem(document.place(("kind",)), "kind", message, ", ".join(KINDS)))
    if "spec_version" in document.data and (version != VERSION or isinstance(version, bool)):
        # Another version may have another schema: to check against this one would only mislead.
        message = f"found {describe(version)}, which this version of Equimodels does not read"
        problems.append(Problem(document.place(("spec_version",)), "spec_version", message, str(VERSION)))
    if len(problems) > len(document.problems):
        raise SpecError(problems)
    return str(kind)


def _problem(complaint: Complaint, document: Document) -> Problem:
    place, path = document.place(complaint.path), dotted(complaint.path)
    return Problem(place, path, complaint.message, complaint.allowed, complaint.hint).without(document.secrets())
