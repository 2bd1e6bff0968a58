"""Complaints about the settings of a named component, from the pydantic model that describes them."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from cluster.spec.complaints import Complaint


def setting_complaints(
    settings: type[BaseModel], params: Mapping[str, Any], path: tuple[str, ...], what: str
) -> list[Complaint]:
    """One complaint for each setting that is unknown, missing or has a value that is not allowed."""
    try:
        settings(**params)
    except ValidationError as error:
        return [_complaint(settings, problem, path, what) for problem in error.errors()]
    return []


def unknown(what: str, name: str, known: Iterable[str], path: tuple[str, ...], shown: int = 20) -> Complaint:
    """No `what` is called that; names the nearest one, and all (at most `shown`) that there are."""
    names = list(known)
    rest = f", and {len(names) - shown} more" if len(names) > shown else ""
    return Complaint(
        path, f"unknown {what} {name!r}{nearest(name, names)}", allowed=(", ".join(names[:shown]) or "none") + rest
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean ...?', or nothing where no name is near. Case does not count."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def _complaint(settings: type[BaseModel], problem: Any, path: tuple[str, ...], what: str) -> Complaint:
    place = tuple(problem["loc"])
    names = ", ".join(sorted(settings.model_fields)) or "none"
    if problem["type"] == "extra_forbidden":
        found = f"unknown setting for {what}{nearest(str(place[-1]), settings.model_fields)}"
        return Complaint((*path, *place), found, hint=f"settings: {names}")
    if problem["type"] == "missing":
        return Complaint(path, f"{what} needs the setting {str(place[-1])!r}", hint=f"settings: {names}")
    text = problem["msg"].removeprefix("Value error, ")
    return Complaint((*path, *place), f"{problem['input']!r} is not a value for {what}: {text}")
