"""Checks of a sweep: the base, the metric, and every corner of its space."""

from pydantic import ValidationError

from cluster.spec.complaints import Complaint, Surroundings
from jobs.checks import train
from jobs.spec.sweep import SweepSpec
from jobs.sweep.space import corners, trial_spec, winner_spec


def check(spec: SweepSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything wrong with the sweep here; a problem that many corners share is told once."""
    try:
        base = trial_spec(spec, {})
    except ValidationError as error:
        return [Complaint(("trial", *_place(error)), _text(error))]
    found = dict.fromkeys(train.dataset(base, surroundings))
    found |= {Complaint(("metric",), c.message, c.allowed, c.hint): None for c in train.metric(base)}
    found |= {Complaint(("base", *c.path), c.message, c.allowed, c.hint): None for c in train.components(spec.base)}
    if found:
        return list(found)
    for corner in corners(spec.space):
        for make in (trial_spec, winner_spec):
            try:
                candidate = make(spec, corner)
            except ValidationError as error:
                found[Complaint(("space", _blamed(spec, _place(error))), _text(error))] = None
                continue
            problems = train.components(candidate) + train.strategy(candidate)
            for complaint in problems + train.capacity(candidate, surroundings):
                place = ("space", _blamed(spec, complaint.path))
                found[Complaint(place, complaint.message, complaint.allowed, complaint.hint)] = None
    return list(found)


def _place(error: ValidationError) -> tuple[str, ...]:
    return tuple(str(part) for part in error.errors()[0]["loc"])


def _text(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def _blamed(spec: SweepSpec, path: tuple[str | int, ...]) -> str:
    """The searched setting that a problem at `path` comes from: the one that shares the most of the path."""
    dotted = ".".join(str(part) for part in path)

    def shared(name: str) -> int:
        return sum(1 for a, b in zip(name.split("."), dotted.split("."), strict=False) if a == b)

    return max(spec.space, key=shared)
