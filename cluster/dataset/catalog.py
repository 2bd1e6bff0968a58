"""Which datasets a store has: references, manifests, versions."""

from pydantic import ValidationError

from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.schema import SCHEMA_VERSION
from cluster.errors import StoreError, UserError
from cluster.names import as_version, manifest_key, missing, published, split_reference, unknown, versions
from cluster.store import Store, read_json


def parse_reference(text: str) -> tuple[str, int | None]:
    """Name and version of 'name@3', 'datasets/name@3' or 'name' (None: the latest). Raises `UserError`."""
    name, label = split_reference("dataset", text)
    if label is None:
        return name, None
    version = as_version(label)
    if version is None:
        raise UserError(f"{text!r} names no version of a dataset", allowed=f"{name} (the latest) or {name}@3")
    return name, version


def load_manifest(store: Store, ref: str) -> DatasetManifest:
    """The manifest of a dataset. Raises `NotFoundError`, naming what is there."""
    name, version = parse_reference(ref)
    if version is not None and store.exists(manifest_key("dataset", name, version)):
        return read_manifest(store, name, version)
    there = versions(store, "dataset", name)
    if not there:
        raise unknown(store, "dataset", name)
    if version is not None:
        labels = [str(number) for number in there]
        raise missing(f"dataset {name!r} has no version {version}", "", labels, "its versions")
    return read_manifest(store, name, there[-1])


def read_manifest(store: Store, name: str, version: int) -> DatasetManifest:
    """The manifest of a version that exists. Raises `StoreError` where it is damaged or newer than this code."""
    key = manifest_key("dataset", name, version)
    document = read_json(store, key)
    written = document.get("schema_version")
    if isinstance(written, int) and written > SCHEMA_VERSION:
        raise StoreError(
            f"{key} was written by a newer release (version {written} of the format)",
            allowed=f"versions 1 to {SCHEMA_VERSION}",
            hint="upgrade equimodels",
        )
    try:
        return DatasetManifest.model_validate(document)
    except ValidationError as error:
        raise StoreError(f"{key} is no manifest of a dataset: {error}") from error


def list_datasets(store: Store) -> list[DatasetManifest]:
    """Every version of every dataset, ordered by name and version."""
    return [
        read_manifest(store, name, version)
        for name in published(store, "dataset")
        for version in versions(store, "dataset", name)
    ]
