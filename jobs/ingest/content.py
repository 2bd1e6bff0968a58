"""What rows hold, in few bytes: a digest that equal rows share, their formula, and how much of a shard they fill."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ase.data import chemical_symbols
from numpy.typing import NDArray

from cluster.dataset.schema import Kind
from cluster.dataset.tensors import is_tensor, tensor_numpy
from jobs.ingest.columns import flat_values, list_lengths

DIGEST_BYTES = 16
_ELEMENTS = 119


def row_digests(table: pa.Table, kind: Kind) -> pa.Array | None:
    """Of what a model sees, not of labels: atoms with cell, pixels, values, points. None for tables.

    Structures are equal where numbers, positions and (where they repeat) cells are, bit for bit.
    """
    names = {"structures": ("numbers", "positions"), "images": ("pixels",), "signals": ("values",)}
    seen = [n for n in names.get(kind, ("positions", "features")) if n in table.column_names]
    if kind == "table":
        return None
    parts = [_bytes_by_row(table[name]) for name in seen]
    if kind == "structures" and "pbc" in table.column_names:
        repeats: list[bool] = np.any(tensor_numpy(table["pbc"]), axis=1).tolist()
        parts += [
            [box if there else b"" for box, there in zip(_bytes_by_row(table[name]), repeats, strict=True)]
            for name in ("cell", "pbc")
        ]
    digests = [hashlib.blake2b(b"".join(row), digest_size=DIGEST_BYTES).digest() for row in zip(*parts, strict=True)]
    return pa.array(digests, pa.binary(DIGEST_BYTES))


def formulas(table: pa.Table) -> pa.DictionaryArray:
    """Chemical formulas of structures in Hill's order: carbon, hydrogen, then by the alphabet."""
    numbers, lengths = flat_values(table["numbers"]), list_lengths(table["numbers"])
    counts = np.zeros((len(lengths), _ELEMENTS), dtype=np.int32)
    np.add.at(counts, (np.repeat(np.arange(len(lengths)), lengths), numbers), 1)
    several, which = np.unique(counts, axis=0, return_inverse=True)
    return pa.DictionaryArray.from_arrays(
        pa.array(which.reshape(-1).astype(np.int32)), pa.array([hill(row) for row in several], pa.string())
    )


def hill(counts: NDArray[np.integer]) -> str:
    """The formula of so many atoms of each atomic number."""
    there = {chemical_symbols[z]: int(counts[z]) for z in np.flatnonzero(counts)}
    first = ["C", "H"] if "C" in there else []
    order = [s for s in first if s in there] + sorted(set(there) - set(first))
    return "".join(f"{symbol}{there[symbol] if there[symbol] > 1 else ''}" for symbol in order)


def row_bytes(table: pa.Table) -> NDArray[np.int64]:
    """What each row adds to `content_bytes`, from which follows where shards are cut."""
    total = np.zeros(len(table), dtype=np.int64)
    for column in table.columns:
        if column.num_chunks:
            total += np.concatenate([_bytes_of_each(chunk) for chunk in column.chunks])
    return total


def _bytes_of_each(array: pa.Array) -> NDArray[np.int64]:
    """As `content_bytes` counts, of each value alone."""
    kind, rows = array.type, len(array)
    if is_tensor(kind):
        return _bytes_of_each(array.storage)
    if pa.types.is_string(kind):
        return np.asarray(pc.binary_length(array), dtype=np.int64) + 4
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        lists = pa.types.is_list(kind)
        lengths = np.asarray(pc.list_value_length(array), dtype=np.int64) if lists else np.full(rows, kind.list_size)
        own = 4 if lists else 0
        if not pa.types.is_nested(kind.value_type) and not pa.types.is_string(kind.value_type):
            return np.asarray(own + lengths * max(kind.value_type.bit_width // 8, 1), dtype=np.int64)
        so_far = np.concatenate([[0], np.cumsum(_bytes_of_each(array.flatten()))])
        ends = np.cumsum(lengths)
        return np.asarray(own + so_far[ends] - so_far[ends - lengths], dtype=np.int64)
    return np.full(rows, max(kind.bit_width // 8, 1), dtype=np.int64)


def _bytes_by_row(column: pa.ChunkedArray) -> list[bytes]:
    if is_tensor(column.type):
        return [_plain(row) for row in tensor_numpy(column)]
    values, lengths = flat_values(column), list_lengths(column)
    whole, width = memoryview(_plain(values)), values.dtype.itemsize
    ends = (np.cumsum(lengths) * width).tolist()
    return [bytes(whole[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]


def _plain(values: NDArray[Any]) -> bytes:
    # Adding zero makes -0.0 and 0.0 the same.
    return (values + 0.0 if values.dtype.kind == "f" else values).tobytes()
