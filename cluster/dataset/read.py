"""Reading datasets: by name, and only the rows and columns that are wanted."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from pydantic import ValidationError

from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.schema import SCHEMA_VERSION, SPLITS
from cluster.errors import NotFoundError, StoreError, UserError
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
    if document.get("schema_version", 0) > SCHEMA_VERSION:
        raise StoreError(f"{key} was written by a newer release", hint="upgrade equimodels")
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


def read_table(store: Store, ref: str, split: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of one split (all by default) and some columns, in the dataset's order; only these are fetched.

    Empty where the dataset has no row in the split. Raises `UserError` for an unknown split or column.
    """
    manifest = load_manifest(store, ref)
    names = [column.name for column in manifest.columns]
    strange = [name for name in columns or () if name not in names]
    if strange:
        raise missing(f"dataset {manifest.ref} has no column {strange[0]!r}", strange[0], names, "its columns")
    if split is not None and split not in SPLITS:
        raise missing(f"there is no split {split!r}", split, SPLITS, "splits")
    filesystem, base = store.arrow()
    paths = [f"{base.rstrip('/')}/{manifest.folder}/{shard.path}" for shard in manifest.shards]
    try:
        dataset = pads.dataset(paths, filesystem=filesystem, format="parquet")
        return dataset.to_table(
            columns=list(columns) if columns is not None else None,
            filter=None if split is None else pc.field("split") == split,
        )
    except (OSError, pa.ArrowInvalid) as error:
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"dataset {manifest.ref} has lost a shard: {error}") from error
        raise StoreError(f"dataset {manifest.ref} cannot be read: {error}") from error
