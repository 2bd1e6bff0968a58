"""Rows of equal content in more than one split: a score on them says how well a model remembers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.errors import UserError
from jobs.ingest.content import DIGEST_BYTES
from jobs.ingest.split import Codes

_SHOWN = 5


@dataclass(frozen=True)
class Copies:
    """What was found. dropped: places of rows that are left out."""

    across: int  # contents that are in more than one split
    within: int  # rows whose content another row of the same split has already
    dropped: NDArray[np.int64]


def settle(digests: pa.ChunkedArray, ids: pa.ChunkedArray, codes: Codes, mode: Literal["refuse", "drop"]) -> Copies:
    """Find rows of equal digest in different splits, and refuse them or choose which to drop.

    Dropped are the copies outside test; between train and valid, those of train. Raises UserError, naming rows.
    """
    order, contents = _sorted(digests)
    mine = codes[order]
    starts = np.flatnonzero(np.diff(contents, prepend=-1))
    first, last = np.minimum.reduceat(mine, starts), np.maximum.reduceat(mine, starts)
    torn = first != last
    if torn.any() and mode == "refuse":
        raise UserError(
            f"{int(torn.sum())} contents are in more than one split: {_examples(ids, order, starts, torn)}",
            allowed="each structure or picture in one split only, or the score on unseen data means nothing",
            hint="split.duplicates: drop leaves out the copies that are not held out; allow keeps them all",
        )
    keep = last[contents]  # test is the last of SPLITS, train the first
    dropped = np.sort(order[mine != keep])
    kept = np.setdiff1d(order, dropped, assume_unique=True)
    return Copies(int(torn.sum()), len(kept) - len(starts), dropped)


def _sorted(digests: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order in which equal digests are neighbours and else stays, and which content each place of it has."""
    data = b"".join(memoryview(chunk.buffers()[1])[chunk.offset * DIGEST_BYTES :][: len(chunk) * DIGEST_BYTES]
                    for chunk in digests.chunks)  # fmt: skip
    halves = np.frombuffer(data, dtype="<u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    there = halves[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (there[1:] != there[:-1]).any(axis=1)
    return order, np.cumsum(new) - 1


def _examples(
    ids: pa.ChunkedArray, order: NDArray[np.int64], starts: NDArray[np.int64], torn: NDArray[np.bool_]
) -> str:
    """The first of the copies by their rows."""
    ends = np.append(starts[1:], len(order))
    which = np.flatnonzero(torn)
    which = which[np.argsort(np.minimum.reduceat(order, starts)[which])][:_SHOWN]
    copies = [np.sort(order[starts[content] : ends[content]])[:4] for content in which.tolist()]
    shown = [" = ".join(ids.take(pa.array(rows)).to_pylist()) for rows in copies]
    return ", ".join(shown) + (", ..." if torn.sum() > _SHOWN else "")
