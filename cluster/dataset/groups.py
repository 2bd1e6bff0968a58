"""Which row groups hold the rows of a split."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.schema import SPLITS

Integers = NDArray[np.int64]
GROUP_ROWS_V1 = 512  # of every row group that version 1 wrote, but the last of a shard


@dataclass(frozen=True)
class GroupIndex:
    """Row groups of a split, or the slices of them that belong to it. (G,) each, in the order of the dataset.

    number: of the row group in the dataset. skip: rows of it before the slice; always 0 but in version 1. rows: of the
    slice. first: the number of its first row in the dataset.
    """

    number: Integers
    skip: Integers
    rows: Integers
    first: Integers

    def __len__(self) -> int:
        return len(self.number)


class Layout:
    """All row groups of a dataset, from its manifest alone. (G,) each: shard, place within it, rows, first row."""

    def __init__(self, manifest: DatasetManifest) -> None:
        self._manifest = manifest
        counts = [
            _groups(shard.rows) if manifest.schema_version == 1 else len(shard.groups) for shard in manifest.shards
        ]
        total = sum(counts)
        self.shard: Integers = np.repeat(np.arange(len(counts)), counts)
        starts = np.cumsum([0, *counts])
        self.place: Integers = np.arange(total) - np.repeat(starts[:-1], counts)
        self.rows: Integers = np.fromiter(self._rows(), dtype=np.int64, count=total)
        self.first: Integers = np.cumsum(self.rows) - self.rows

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """The first row of each split and the row after its last: splits lie one after another, in every version."""
        found, at = {}, 0
        for split in SPLITS:
            count = self._manifest.splits.get(split, 0)
            found[split] = at, at + count
            at += count
        return found

    def index(self, split: str | None) -> GroupIndex:
        """The row groups of a split; of all rows for None."""
        start, end = self.bounds[split] if split is not None else (0, self._manifest.rows)
        begin = np.maximum(self.first, start)
        stop = np.minimum(self.first + self.rows, end)
        number = np.flatnonzero(stop > begin)
        return GroupIndex(number, (begin - self.first)[number], (stop - begin)[number], begin[number])

    def _rows(self) -> "list[int]":
        if self._manifest.schema_version > 1:
            return [group[0] for shard in self._manifest.shards for group in shard.groups]
        return [
            min(GROUP_ROWS_V1, shard.rows - place * GROUP_ROWS_V1)
            for shard in self._manifest.shards
            for place in range(_groups(shard.rows))
        ]


def _groups(rows: int) -> int:
    return -(-rows // GROUP_ROWS_V1)
