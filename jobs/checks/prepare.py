"""Checks of a prepare spec: the dataset, every step and its settings, and whether they fit each other."""

from dataclasses import replace

from cluster.dataset.catalog import load_manifest
from cluster.errors import UserError
from cluster.spec.complaints import Complaint, Surroundings
from jobs.checks.settings import setting_complaints, unknown
from jobs.prepare.catalogue import STEPS, settings_of
from jobs.spec.prepare import PrepareSpec


def check(spec: PrepareSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything that is wrong with `spec` here, all at once."""
    found = [complaint for place in range(len(spec.steps)) for complaint in settings(spec, place)]
    if spec.workers.gpus and surroundings.capacity is not None and surroundings.capacity.get("GPU", 0) < 1:
        message = f"workers.gpus is {spec.workers.gpus:g}, and the cluster has no GPU"
        found.append(Complaint(("workers", "gpus"), message, allowed="0"))
    return found if surroundings.store is None else found + fit(spec, surroundings)


def settings(spec: PrepareSpec, place: int) -> list[Complaint]:
    """The step is known and its settings are allowed."""
    step = spec.steps[place]
    if step.name not in STEPS:
        found = [unknown("step", step.name, STEPS, ("name",))]
    else:
        found = setting_complaints(STEPS[step.name].settings, step.params, ("params",), f"step {step.name!r}")
    return [replace(each, path=("steps", place, *each.path)) for each in found]


def fit(spec: PrepareSpec, surroundings: Surroundings) -> list[Complaint]:
    """The dataset is there, and so is what each step needs of it; models are published, files are there."""
    if surroundings.store is None:
        return []
    try:
        manifest = load_manifest(surroundings.store, spec.data.uri)
    except UserError as error:
        return [Complaint(("data", "uri"), error.message, error.allowed, error.hint)]
    columns = frozenset(column.name for column in manifest.columns)
    found = []
    for place, step in enumerate(spec.steps):
        if settings(spec, place):
            continue
        lacking = STEPS[step.name].lacking(settings_of(step), manifest.kind, columns)
        if lacking is not None:
            found.append(Complaint(("steps", place), lacking))
        try:
            STEPS[step.name].pin(settings_of(step), surroundings.store)
        except UserError as error:
            found.append(Complaint(("steps", place, "params"), error.message, error.allowed, error.hint))
    return found
