"""Columns of the two kinds of dataset: types, units and what must be there.

A row is one structure of n atoms, or one image of C channels and H x W pixels. `group` names what must
not be torn apart by a split (a trajectory); `split` is train, valid or test. Units and the image shape
are in the metadata of the fields, so that a Parquet file tells them without its manifest.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from cluster.errors import UserError

if TYPE_CHECKING:
    from cluster.dataset.manifest import DatasetManifest

Kind = Literal["structures", "images"]
SCHEMA_VERSION = 1
SPLITS = ("train", "valid", "test")


def _field(name: str, kind: pa.DataType, **metadata: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata=metadata or None)


def _numbers(kind: pa.DataType) -> pa.DataType:
    # Named 'element' as Parquet names it: under another name, a table that was read differs from the one written.
    return pa.list_(pa.field("element", kind, nullable=False))


STRUCTURES = pa.schema(
    [
        _field("id", pa.string()),
        _field("numbers", _numbers(pa.uint8()), meaning="atomic number of each atom"),
        _field("positions", _numbers(pa.float64()), unit="angstrom", meaning="x, y, z of each atom in turn"),
        _field("energy", pa.float64(), unit="eV"),
        _field("forces", _numbers(pa.float64()), unit="eV/angstrom", meaning="x, y, z of each atom in turn"),
        _field("group", pa.string()),
        _field("split", pa.string()),
    ]
)


def images_schema(shape: tuple[int, int, int]) -> pa.Schema:
    """The schema of images of shape (C, H, W)."""
    channels, height, width = shape
    pixels = pa.list_(pa.field("element", pa.float32(), nullable=False), channels * height * width)
    return pa.schema(
        [
            _field("id", pa.string()),
            _field("pixels", pixels, shape=json.dumps(list(shape)), meaning="channels, rows, columns"),
            _field("label", pa.int64()),
            _field("group", pa.string()),
            _field("split", pa.string()),
        ]
    )


def image_shape(schema: pa.Schema) -> tuple[int, int, int]:
    """(C, H, W) of a table of images, from the metadata of its pixels. Raises `UserError` where there is none."""
    field = schema.field("pixels")
    try:
        channels, height, width = json.loads((field.metadata or {})[b"shape"])
    except (KeyError, ValueError):
        raise UserError(
            "the pixels of the images have no shape", allowed="field metadata shape='[channels, rows, columns]'"
        ) from None
    return channels, height, width


# The columns that make a dataset one of this kind; it may have more.
COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "structures": tuple(STRUCTURES.names),
    "images": tuple(images_schema((1, 1, 1)).names),
}


def require_kind(manifest: "DatasetManifest", kind: str) -> None:
    """Raise `UserError`, listing the columns that are missing, unless the dataset is of this kind."""
    if manifest.kind == kind:
        return
    there = {column.name for column in manifest.columns}
    lacking = [name for name in COLUMNS.get(kind, ()) if name not in there]  # type: ignore[call-overload]
    raise UserError(
        f"dataset {manifest.ref} holds {manifest.kind}, not {kind}; missing columns: {', '.join(lacking)}",
        allowed=f"a dataset of {kind}",
        hint=f"its columns: {', '.join(column.name for column in manifest.columns)}",
    )
