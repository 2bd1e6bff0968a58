"""Checks of an evaluate spec: the dataset and its split, the model or endpoint, metrics that fit the data."""

from pathlib import Path

from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.read import load_manifest
from cluster.errors import UserError
from cluster.registry import resolve
from cluster.spec.complaints import Complaint, Surroundings
from cluster.store import Store
from jobs.evaluation.address import endpoint_url
from jobs.evaluation.metrics import METRICS
from jobs.spec.evaluate import EvaluateSpec


def check(spec: EvaluateSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything that is wrong with `spec` here, all at once."""
    found = token_file(spec)
    if surroundings.store is None:
        return found
    found += predictor(spec, surroundings.store)
    try:
        manifest = load_manifest(surroundings.store, spec.data.uri)
    except UserError as error:
        return [Complaint(("data", "uri"), error.message, error.allowed, error.hint), *found]
    return found + data(spec, manifest)


def data(spec: EvaluateSpec, manifest: DatasetManifest) -> list[Complaint]:
    """The split has rows, and every metric can be computed from them."""
    found = []
    if not manifest.splits.get(spec.data.split):
        there = ", ".join(name for name, rows in manifest.splits.items() if rows)
        found.append(Complaint(("data", "split"), f"{spec.data.uri} has no {spec.data.split} rows", allowed=there))
    fitting = METRICS[manifest.kind]
    for place, metric in enumerate(spec.metrics):
        if metric not in fitting:
            found.append(
                Complaint(
                    ("metrics", place),
                    f"{metric!r} is not defined for a dataset of {manifest.kind}",
                    allowed=", ".join(fitting),
                )
            )
    return found


def predictor(spec: EvaluateSpec, store: Store) -> list[Complaint]:
    """The model is published, or the endpoint is known."""
    try:
        if spec.model is not None:
            resolve(store, spec.model)
        elif spec.endpoint is not None:
            endpoint_url(store, spec.endpoint)
    except UserError as error:
        place = "model" if spec.model is not None else "endpoint"
        return [Complaint((place,), error.message, error.allowed, error.hint)]
    return []


def token_file(spec: EvaluateSpec) -> list[Complaint]:
    """The token can be read."""
    if spec.token_file is None or Path(spec.token_file).expanduser().is_file():
        return []
    return [Complaint(("token_file",), f"no file {spec.token_file}")]
