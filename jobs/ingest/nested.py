"""Columns of lists, of lists of lists, and of tensors, as flat numbers and how many each row has."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.errors import UserError


def unnested(column: pa.ChunkedArray, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All numbers of a column without missing rows, and how many are in each row. A missing number is NaN.

    Raises UserError for a column of something else, such as text, and for a list or a whole number that is missing.
    """
    chunks = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in column.chunks]
    if not chunks:
        return np.empty(0), np.empty(0, dtype=np.int64)
    array = pa.concat_arrays(chunks)
    bounds = np.arange(len(array) + 1, dtype=np.int64)  # where each row's values begin, at the depth reached so far
    while pa.types.is_nested(array.type) and not array.null_count:
        if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            offsets = np.asarray(array.offsets, dtype=np.int64)
            bounds = offsets[bounds] - offsets[0]
        elif pa.types.is_fixed_size_list(array.type):
            bounds = bounds * array.type.list_size
        else:
            break
        array = array.flatten()
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        found = f"{array.null_count} lists that are missing" if array.null_count else str(array.type)
        raise UserError(f"column {name!r} holds {found}", allowed="numbers, or lists of them")
    if array.null_count and not pa.types.is_floating(array.type):
        raise UserError(f"column {name!r} has {array.null_count} missing values within its lists", allowed="none")
    return np.asarray(array.to_numpy(zero_copy_only=False)), np.diff(bounds)
