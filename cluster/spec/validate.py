"""From a document to a model instance, or to one problem for each thing that pydantic finds."""

from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cluster.spec.document import Document
from cluster.spec.problems import Problem, SpecError, dotted
from cluster.spec.secrecy import HIDDEN, is_secret, redact
from cluster.spec.shape import Shape
from cluster.spec.tree import Path
from cluster.spec.wording import describe, did_you_mean, nearest

M = TypeVar("M", bound=BaseModel)

# Pydantic's own words tell more than "found x" where a rule is not in the JSON schema.
_EXPLAINED_BY_SCHEMA = (
    "_type", "_parsing", "_from_float", "literal_error", "enum", "greater_than", "greater_than_equal", "less_than",
    "less_than_equal", "multiple_of", "string_pattern_mismatch", "string_too_short", "string_too_long", "too_short",
    "too_long", "bool_parsing",
)  # fmt: skip


def validate(document: Document, model: type[M]) -> M:
    """The document as an instance of `model`; validators find the spec's folder in the context as `folder`.

    Raises SpecError with every problem at once: those of the text, of the overrides and of the schema.
    """
    try:
        spec = model.model_validate(document.data, context={"folder": document.folder})
    except ValidationError as error:
        shape = Shape(model)
        unknown = [_path(e["loc"], document.data, shape) for e in error.errors() if e["type"] == "extra_forbidden"]
        found = [_problem(detail, document, shape, unknown) for detail in error.errors(include_url=False)]
        raise SpecError([*document.problems, *found]) from None  # pydantic's own words would show secret values
    if document.problems:
        raise SpecError(document.problems)
    return spec


def what_fits(document: Document, model: type[M]) -> tuple[M, list[Path]] | None:
    """The spec that is left, and which paths were taken out, when whatever does not fit the schema is taken out.

    None where that is no spec: a setting is missing, or two of them do not go together. With what fits the kind's own
    check has its say too, and all problems still come at once.
    """
    context = {"folder": document.folder}
    try:
        return model.model_validate(document.data, context=context), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    data, shape = deepcopy(document.data), Shape(model)
    paths = [_path(detail["loc"], document.data, shape) for detail in details]
    if any(detail["type"] in ("missing", "value_error", "assertion_error") for detail in details) or () in paths:
        return None
    for *parents, last in paths:
        container: Any = data
        for key in parents:
            container = container[key] if _is_in((key,), container) else {}
        if isinstance(container, dict):
            container.pop(last, None)
    try:
        return model.model_validate(data, context=context), paths
    except ValidationError:
        return None


def _problem(detail: ErrorDetails, document: Document, shape: Shape, unknown: list[Path]) -> Problem:
    path = _path(detail["loc"], document.data, shape)
    kind = detail["type"]
    message, allowed, hint = f"found {describe(detail['input'], secret=is_secret(*path))}", shape.allowed(path), None
    if detail["loc"][-1:] == ("[key]",):
        pattern = detail.get("ctx", {}).get("pattern")
        message, allowed = "is not allowed as a name here", f"text like {pattern}" if pattern else detail["msg"]
    elif kind == "missing":
        message = "is missing"
        meant = nearest(str(path[-1]), [str(p[-1]) for p in unknown if p[:-1] == path[:-1]])
        hint = f"{meant!r} is unknown here; was it meant?" if meant else shape.description(path)
    elif kind == "extra_forbidden":
        message, allowed, hint = _unknown(path, shape)
    elif kind in ("value_error", "assertion_error"):
        path, message, allowed = _own_words(detail, path, document.data)
    elif kind == "literal_error" and isinstance(detail["input"], str):
        message += did_you_mean(detail["input"], shape.choices(path))
    elif not kind.endswith(_EXPLAINED_BY_SCHEMA):
        message, allowed = f"{message}; {detail['msg'][:1].lower()}{detail['msg'][1:]}", None
    else:
        hint = shape.description(path)
    secrets = document.secrets()
    if is_secret(*path):  # in the words of a model's own check, however short
        message = redact(message, secrets | {str(detail["input"]) or HIDDEN})
    return Problem(document.place(path), dotted(path), message, allowed, hint).without(secrets)


def _unknown(path: Path, shape: Shape) -> tuple[str, None, str | None]:
    key, known = str(path[-1]), shape.keys(path[:-1])
    suggestion = did_you_mean(key, known)
    elsewhere = shape.elsewhere(key)
    if elsewhere and not suggestion:
        suggestion = f"; did you mean {elsewhere!r}?"
    return f"unknown setting{suggestion}", None, f"settings: {', '.join(sorted(known))}" if known else None


def _own_words(detail: ErrorDetails, path: Path, data: Any) -> tuple[Path, str, str | None]:
    """The message of a model's own check. One that begins with the name of a setting is about that setting."""
    error = detail.get("ctx", {}).get("error")
    message, _, allowed = str(error if error is not None else detail["msg"]).partition("; allowed: ")
    about = (*path, *message.partition(" ")[0].split("."))
    return about if _is_in(about, data) else path, message, allowed or None


def _path(location: tuple[str | int, ...], data: Any, shape: Shape) -> Path:
    """Pydantic's location without the tags of unions and validators that it puts between the keys."""
    path: list[str | int] = []
    here = data
    for number, part in enumerate(location):
        inside = _is_in((part,), here)
        last = number == len(location) - 1
        if not inside and not ((last or not isinstance(here, dict | list)) and shape.has((*path, part))):
            continue
        path.append(part)
        here = here[part] if inside else None
    return tuple(path)


def _is_in(path: Path, data: Any) -> bool:
    for part in path:
        if isinstance(data, dict):
            if part not in data:
                return False
        elif not isinstance(data, list) or not isinstance(part, int) or part >= len(data):
            return False
        data = data[part]
    return True
