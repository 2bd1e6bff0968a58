"""Types of columns in words of our own, for manifests and digests, and fields read back from those words.

Arrow's words include how the elements of a list are called, which Parquet changes.
"""

import json
import re
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster.dataset.tensors import is_tensor, tensor_type
from cluster.errors import StoreError, UserError

if TYPE_CHECKING:
    from cluster.dataset.manifest import Column


def list_type(value: pa.DataType, size: int = -1) -> pa.DataType:
    """Lists without holes; their elements are called 'element', as in Parquet: what is read is what was written."""
    return pa.list_(pa.field("element", value, nullable=False), size)


def type_name(kind: pa.DataType) -> str:
    """The type in words: 'double', 'list<uint8>', 'list<float, 6>', 'tensor<uint8, [1, 28, 28]>'.

    Raises `UserError` for a type that a dataset cannot hold.
    """
    if is_tensor(kind):
        return f"tensor<{type_name(kind.value_type)}, {json.dumps(list(kind.shape))}>"
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"list<{type_name(kind.value_type)}, {kind.list_size}>"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return str(kind)
    raise UserError(
        f"a dataset holds no column of type {kind}", allowed="numbers, true or false, text, lists of them, and tensors"
    )


def parse_type(name: str) -> pa.DataType:
    """The inverse of `type_name`. Raises `StoreError` for words that it does not give."""
    if match := re.fullmatch(r"tensor<(\w+), (\[[\d, ]+\])>", name):
        return tensor_type(parse_type(match[1]), json.loads(match[2]))
    if match := re.fullmatch(r"list<(.+), (\d+)>", name):
        return list_type(parse_type(match[1]), int(match[2]))
    if match := re.fullmatch(r"list<(.+)>", name):
        return list_type(parse_type(match[1]))
    try:
        return pa.type_for_alias(name)
    except ValueError:
        raise StoreError(f"a manifest names the unknown type {name!r}") from None


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type as a dataset holds it: as `parse_type` gives it. Raises `UserError` as `type_name` does."""
    return parse_type(type_name(kind))


def field_of(column: "Column") -> pa.Field:
    """The field that a column of a manifest describes."""
    metadata = {**column.metadata, **({"unit": column.unit} if column.unit is not None else {})}
    return pa.field(column.name, parse_type(column.type), nullable=False, metadata=metadata or None)


def metadata_of(field: pa.Field) -> dict[str, str]:
    """What a field says beside its name and type."""
    return {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
