"""Rows of older versions of the format in the types of this one. What is on the store stays as it is."""

import json

import pyarrow as pa

from cluster.dataset.columns import field_of, plain_type
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.schema import Known, known_columns
from cluster.dataset.tensors import tensor_type


def logical_schema(manifest: DatasetManifest) -> pa.Schema:
    """The schema of what is read of a dataset, in the order of its columns, whatever its version is."""
    fields = [field_of(column) for column in manifest.columns]
    if manifest.schema_version > 1:
        return pa.schema(fields)
    known = known_columns(manifest.kind)
    return pa.schema([_upgraded(field, known.get(field.name)) for field in fields])


def _upgraded(field: pa.Field, known: Known | None) -> pa.Field:
    """Version 1: pixels were lists beside a shape, and columns that have a meaning now had none.

    Such a column is what it is called where its type can be that, and gets another name where it cannot.
    """
    if known is None:
        return field
    if b"shape" in (field.metadata or {}) and pa.types.is_fixed_size_list(field.type):
        return known.field(tensor_type(field.type.value_type, json.loads(field.metadata[b"shape"])))
    if isinstance(known.form, str) and _castable(field.type, wanted := plain_type(known.field(field.type).type)):
        return known.field(wanted)
    return field.with_name(f"{field.name}_v1")


def _castable(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _castable(found.value_type, wanted.value_type)
    number = pa.types.is_integer(found) or pa.types.is_floating(found)
    return bool(found == wanted or (number and pa.types.is_floating(wanted)))
