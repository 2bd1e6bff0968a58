"""Rows of a dataset as flat arrays: columns of equal rows, and ragged ones as all values beside their offsets.

Everything that happens to samples on their way to a batch (choosing, cutting, joining) is one array operation a column
here, never a Python loop over rows. Shapes: n rows, N values of a ragged column.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Column(NamedTuple):
    """values: (n, ...). With offsets, (n + 1,) ascending, values: (N, ...), row i is values[offsets[i]:offsets[i + 1]].

    Ragged columns of the same lengths (the atoms of a structure) share one offsets array; it is worked on once.
    """

    values: NDArray[Any]
    offsets: Integers | None = None

    @property
    def lengths(self) -> Integers:
        """(n,) values in each row of a ragged column. Raises TypeError for a column of equal rows."""
        if self.offsets is None:
            raise TypeError("a column of equal rows has no lengths")
        return np.diff(self.offsets)


class Rows:
    """`count` rows, by column name. Never changed; a plain class because slices of it are made for every batch."""

    __slots__ = ("columns", "count")

    def __init__(self, count: int, columns: Mapping[str, Column]) -> None:
        self.count, self.columns = count, columns

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the columns take."""
        arrays = {id(array): array for c in self.columns.values() for array in (c.values, c.offsets)}
        return sum(array.nbytes for array in arrays.values() if array is not None)

    def slice(self, start: int, stop: int) -> "Rows":
        """Rows start to stop; values are views of the same memory."""
        moved: dict[int, tuple[int, int, Integers]] = {}
        columns = {}
        for name, (values, ends) in self.columns.items():
            if ends is None:
                columns[name] = Column(values[start:stop])
                continue
            found = moved.get(id(ends))
            if found is None:
                first, last = int(ends[start]), int(ends[stop])
                found = moved[id(ends)] = first, last, ends[start : stop + 1] - first
            columns[name] = Column(values[found[0] : found[1]], found[2])
        return Rows(stop - start, columns)

    def take(self, rows: Integers) -> "Rows":
        """The rows of these numbers, in their order. rows: (m,)."""
        found: dict[int, tuple[Integers, Integers]] = {}
        columns = {}
        for name, column in self.columns.items():
            if column.offsets is None:
                columns[name] = Column(np.take(column.values, rows, axis=0))
                continue
            if id(column.offsets) not in found:
                found[id(column.offsets)] = _sources(column, rows)
            source, offsets = found[id(column.offsets)]
            columns[name] = Column(np.take(column.values, source, axis=0), offsets)
        return Rows(len(rows), columns)

    def replaced(self, **columns: Column) -> "Rows":
        """The rows with some columns changed or added."""
        return Rows(self.count, {**self.columns, **columns})

    @classmethod
    def join(cls, parts: Sequence["Rows"], each: Callable[..., Iterable[Any]] = map) -> "Rows":
        """The rows of all parts, one after another. Raises ValueError where there is none.

        each: `map`, or that of a pool of threads, to which each column of each part is a task.
        """
        if not parts:
            raise ValueError("nothing to join")
        if len(parts) == 1:
            return parts[0]
        joined: dict[int, Integers] = {}
        columns, copies = {}, []
        for name, first in parts[0].columns.items():
            arrays = [part[name].values for part in parts]
            ends = np.cumsum([0, *map(len, arrays)])
            values = np.empty((ends[-1], *first.values.shape[1:]), np.result_type(*arrays))
            copies += [(values[start:stop], array) for array, (start, stop) in zip(arrays, pairwise(ends), strict=True)]
            offsets = None
            if first.offsets is not None:
                if id(first.offsets) not in joined:
                    joined[id(first.offsets)] = _ends(np.concatenate([part[name].lengths for part in parts]))
                offsets = joined[id(first.offsets)]
            columns[name] = Column(values, offsets)
        for _ in each(lambda copy: np.copyto(*copy), copies):
            pass
        return cls(sum(part.count for part in parts), columns)


def _sources(column: Column, rows: Integers) -> tuple[Integers, Integers]:
    """For every value of the chosen rows, where it stands in `column`; and the offsets of the chosen rows."""
    assert column.offsets is not None
    lengths = column.lengths[rows]
    offsets = _ends(lengths)
    # Place p of the result comes from p plus a shift that is the same for all values of one row.
    return np.arange(offsets[-1]) + np.repeat(column.offsets[rows] - offsets[:-1], lengths), offsets


def _ends(lengths: Integers) -> Integers:
    ends = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends
