"""What becomes of the rows that were read: which split each goes to, which are left out, how shards are cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.conform import refuse_torn
from cluster.dataset.layout import shard_cuts
from cluster.dataset.schema import SPLITS
from cluster.errors import UserError
from jobs.ingest.duplicates import settle
from jobs.ingest.split import Codes, assign_splits, names_of
from jobs.ingest.staging import Index
from jobs.spec.dataset import Shares

_MAY_LACK = {"cell": 9 * 8, "pbc": 3}  # what a piece without any periodic structure has not; bytes a row


@dataclass(frozen=True)
class ShardPlan:
    """The rows of one shard: of each piece these, in this order."""

    split: str
    picked: tuple[tuple[int, NDArray[np.int64]], ...]
    rows: int


@dataclass(frozen=True)
class Decision:
    """How the dataset is laid out. filled: columns that some pieces lack. about: for the provenance."""

    shards: tuple[ShardPlan, ...]
    filled: tuple[str, ...]
    about: dict[str, Any]


def decide(indexes: Sequence[Index], shares: Shares, seed: int) -> Decision:
    """From the indexes of all pieces, in their order.

    Raises UserError for no rows, pieces whose columns differ, an id that occurs twice, a group or a formula that is
    torn apart, copies in two splits.
    """
    there = [index for index in indexes if index.schema is not None]
    if not there:
        raise UserError("the source gave no rows", hint="single atoms are left out of structures by default")
    filled = filled_columns(there)
    rows = pa.concat_tables([index.rows for index in there])
    codes = assign_splits(rows, shares, seed)
    about: dict[str, Any] = {}
    kept = np.arange(len(rows))
    if "digest" in rows.column_names and shares.duplicates != "allow":
        copies = settle(rows["digest"], rows["id"], codes, shares.duplicates)
        kept = np.setdiff1d(kept, copies.dropped, assume_unique=True)
        about = {"contents_in_several_splits": copies.across, "copies_within_a_split": copies.within}
        about["copies_dropped"] = len(copies.dropped)
    names = rows.select(["id", "group"]).append_column("split", names_of(codes))
    refuse_torn(names if len(kept) == len(rows) else names.take(pa.array(kept)))
    shards = cut_shards(indexes, codes, kept, filled)
    if not any(shard.split == SPLITS[0] for shard in shards):
        raise UserError("every row to train on is a copy of one that is held out", allowed="rows of its own")
    return Decision(shards, filled, about)


def cut_shards(
    indexes: Sequence[Index], codes: Codes, kept: NDArray[np.int64], filled: Sequence[str]
) -> tuple[ShardPlan, ...]:
    """The shards of every split. codes: the place in SPLITS of each row of all pieces; kept: the rows that stay."""
    lengths = [len(index.rows) for index in indexes]
    piece = np.repeat(np.arange(len(indexes)), lengths)
    within = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    lacking = np.repeat([_lacking_bytes(index, filled) for index in indexes], lengths)
    size = np.concatenate([index.rows["bytes"].to_numpy() for index in indexes if len(index.rows)]) + lacking
    shards: list[ShardPlan] = []
    for code, split in enumerate(SPLITS):
        mine = kept[codes[kept] == code]
        if not len(mine):
            continue
        nbytes = int(size[mine].sum()) + len(mine) * (4 + len(split))  # the column that is not staged
        for begin, end in pairwise(shard_cuts(len(mine), nbytes)):
            some = mine[begin:end]
            shards.append(ShardPlan(split, _picked(piece[some], within[some]), len(some)))
    return tuple(shards)


def filled_columns(indexes: Sequence[Index]) -> tuple[str, ...]:
    """The columns that some pieces have and others lack. Raises UserError where that is more than cell and pbc."""
    schemas = [{field.name: field.type for field in index.schema or ()} for index in indexes]
    names = set().union(*schemas)
    lacked = {name for name in names if any(name not in schema for schema in schemas)}
    for name in sorted(names):
        kinds = {str(schema[name]) for schema in schemas if name in schema}
        if len(kinds) > 1 or (name in lacked and name not in _MAY_LACK):
            found = ", ".join(sorted(kinds)) + (", or nothing" if name in lacked else "")
            raise UserError(f"column {name!r} is not the same in all files: {found}", allowed="one type in all of them")
    return tuple(sorted(lacked))


def _lacking_bytes(index: Index, filled: Sequence[str]) -> int:
    there = set() if index.schema is None else set(index.schema.names)
    return sum(_MAY_LACK[name] for name in filled if name not in there)


def _picked(pieces: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[tuple[int, NDArray[np.int64]], ...]:
    """The rows by piece."""
    ends = [*np.flatnonzero(np.diff(pieces)) + 1, len(pieces)]
    return tuple((int(pieces[begin]), rows[begin:end]) for begin, end in pairwise([0, *ends]))
