"""Splits of given structures, drawn before anything is computed.

So they do not depend on what fails, every method draws the same, and a split that cannot be is told at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.conform import refuse_torn
from cluster.dataset.schema import SPLITS
from jobs.ingest.content import formulas, row_digests
from jobs.ingest.duplicates import settle
from jobs.ingest.split import assign_splits, names_of
from jobs.label.rows import given_table
from jobs.label.sources import Given, Source
from jobs.spec.dataset import Shares

_BLOCK = 4096  # structures that are looked at together
_DROPPED = -1


@dataclass(frozen=True)
class Splits:
    """The split of each structure, or that it is left out as a copy of one that is held out."""

    codes: NDArray[np.int8]  # (structures,) place in SPLITS
    about: dict[str, Any]  # for the provenance

    @property
    def kept(self) -> int:
        """How many structures stay."""
        return int((self.codes != _DROPPED).sum())

    def assigned(self, source: Source) -> Iterator[Given]:
        """The structures that stay, with their splits."""
        for given, code in zip(source.structures(), self.codes.tolist(), strict=True):
            if code != _DROPPED:
                yield replace(given, split=SPLITS[code])


def draw_splits(source: Source, shares: Shares, seed: int) -> Splits:
    """Assign the structures by random, group or composition, whatever splits they had.

    Raises UserError where nothing is left to train on, or structures occur in several splits.
    """
    rows = pa.concat_tables(list(_narrow(source)))
    codes = assign_splits(rows, shares, seed)
    about: dict[str, Any] = {}
    kept = np.arange(len(rows))
    if shares.duplicates != "allow":
        copies = settle(rows["digest"], rows["id"], codes, shares.duplicates)
        kept = np.setdiff1d(kept, copies.dropped, assume_unique=True)
        about = {"copies_within_a_split": copies.within, "copies_dropped": len(copies.dropped)}
    refuse_torn(rows.select(["id", "group"]).append_column("split", names_of(codes)).take(pa.array(kept)))
    left = np.full(len(codes), _DROPPED, dtype=np.int8)
    left[kept] = codes[kept]
    return Splits(left, about)


def _narrow(source: Source) -> Iterator[pa.Table]:
    structures = source.structures()
    while block := list(islice(structures, _BLOCK)):
        table = given_table([replace(each, split="") for each in block])
        yield pa.table(
            {
                **{name: table[name] for name in ("id", "group", "split")},
                "digest": row_digests(table, "structures"),
                "formula": formulas(table).cast(pa.string()),
            }
        )
