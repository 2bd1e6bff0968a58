"""Checks of a training spec against the library, the store and the cluster."""

from dataclasses import fields
from typing import Any

from cluster.dataset.read import load_manifest
from cluster.dataset.schema import require_kind
from cluster.errors import UserError
from cluster.resources import fits
from cluster.spec.complaints import Complaint, Surroundings
from equimodels.assemble import settings
from equimodels.components import models, objectives, radial_bases
from equimodels.errors import SettingError, UnknownComponentError
from equimodels.registry import Registry
from jobs.checks.settings import nearest, unknown
from jobs.exporters.catalogue import missing
from jobs.spec.frozen import Component
from jobs.spec.train import COUNTED, TrainSpec
from jobs.strategy.refusals import is_conservative, refusals

EMBEDDINGS = {"radial": radial_bases}


def check(spec: TrainSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything that is wrong with `spec` here, all at once."""
    found = components(spec)
    found += dataset(spec, surroundings)
    found += metric(spec)
    found += strategy(spec)
    found += loggers(spec)
    found += capacity(spec, surroundings)
    return found


def components(spec: TrainSpec) -> list[Complaint]:
    """Unknown names and unknown or impossible settings of the model, the objective and the embeddings."""
    found = _component(models, spec.model, ("model",)) + _component(objectives, spec.objective, ("objective",))
    for place, part in spec.embedding.items():
        if place not in EMBEDDINGS:
            found.append(unknown("embedding", place, EMBEDDINGS, ("embedding", place)))
        else:
            found += _component(EMBEDDINGS[place], part, ("embedding", place))
    return found


def dataset(spec: TrainSpec, surroundings: Surroundings) -> list[Complaint]:
    """The dataset exists and holds what the objective reads."""
    if surroundings.store is None:
        return []
    try:
        manifest = load_manifest(surroundings.store, spec.data.uri)
        target: Any = objectives.find(spec.objective.name).target
        require_kind(manifest, target.samples)
    except UnknownComponentError:
        return []  # said already, at the objective
    except UserError as error:
        return [Complaint(("data", "uri"), error.message, allowed=error.allowed, hint=error.hint)]
    batch, kind = spec.data.batch, manifest.kind
    ways = [name for name in (kind, "samples") if name in COUNTED]
    fits_kind = kind == "structures" if batch.budgeted else any(getattr(batch, name) is not None for name in ways)
    if fits_kind:
        return []
    ways += ["atoms", "edges"] if kind == "structures" else []
    allowed = ", ".join(f"data.batch.{name}" for name in ways)
    return [Complaint(("data", "batch"), f"the dataset holds {kind}", allowed=allowed)]


def metric(spec: TrainSpec) -> list[Complaint]:
    """The metric that picks the best weights is one that is measured."""
    if spec.publish is None:
        return []
    try:
        target: Any = objectives.find(spec.objective.name).target
    except UnknownComponentError:
        return []
    known = [f"valid/{name}" for name in target.metrics]
    if spec.publish.metric in known:
        return []
    return [unknown("metric", spec.publish.metric, known, ("publish", "metric"))]


def strategy(spec: TrainSpec) -> list[Complaint]:
    """The strategy can train this model with this optimizer; otherwise why not, and what comes nearest."""
    try:
        target: Any = models.find(spec.model.name).target
    except UnknownComponentError:
        return []
    found = refusals(spec, conservative=is_conservative(target), cuda=spec.resources.gpus_per_worker > 0)
    return [Complaint(tuple(refusal.path.split(".")), refusal.why, hint=refusal.nearest) for refusal in found]


def loggers(spec: TrainSpec) -> list[Complaint]:
    """The packages of all exporters are installed."""
    absent = missing(spec.loggers)
    return [
        Complaint(("loggers", place), f"logger {name}: {absent[name]}")
        for place, name in enumerate(spec.loggers)
        if name in absent
    ]


def capacity(spec: TrainSpec, surroundings: Surroundings) -> list[Complaint]:
    """The cluster can, at some time, hold the smallest number of workers at once."""
    resources = spec.resources
    problem = fits(
        workers=resources.least,
        cpus=resources.cpus_per_worker,
        gpus=resources.gpus_per_worker,
        capacity=surroundings.capacity,
    )
    return [] if problem is None else [Complaint(("resources", "workers"), problem)]


def _component(registry: Registry[Any], part: Component, path: tuple[str, ...]) -> list[Complaint]:
    """Every unknown setting at once, and the first value that its component refuses."""
    try:
        entry = registry.find(part.name)
    except UnknownComponentError as error:
        return [unknown(registry.kind, part.name, error.known, (*path, "name"))]
    known = sorted(field.name for field in fields(entry.config) if field.init)
    what = f"{registry.kind} {part.name!r}"
    found = [
        Complaint(
            (*path, "params", key),
            f"unknown setting for {what}{nearest(key, known)}",
            hint=f"settings: {', '.join(known) or 'none'}",
        )
        for key in part.params
        if key not in known
    ]
    try:
        settings(registry, part.name, {key: value for key, value in part.params.items() if key in known})
    except SettingError as error:
        place = (*path, "params", error.field)
        found.append(Complaint(place, f"{what}: {error.field} is {error.found!r}", allowed=error.allowed))
    return found
