"""Which row goes to which split: the same for the same rows and seed, however they were cut into pieces."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.dataset.schema import SPLITS
from cluster.errors import UserError
from jobs.spec.dataset import Shares

Codes = NDArray[np.int8]
FREE = -1  # the code of a row that no source has assigned; else the place in SPLITS
_WHOLE = {"group": "group", "composition": "formula"}  # the column whose values stay in one split


def assign_splits(rows: pa.Table, shares: Shares, seed: int) -> Codes:
    """The place in SPLITS of each row.

    rows: column split (of SPLITS, or empty: free), and where they are needed group, formula, label. Raises UserError
    where nothing is left to train on, a share that was asked for is no row at all, or a formula is held out in part.
    """
    places = pc.index_in(rows["split"], pa.array(SPLITS))
    codes: Codes = np.asarray(pc.fill_null(places, FREE).to_numpy(), dtype=np.int8)
    free = np.flatnonzero(codes == FREE)
    if shares.by in _WHOLE:
        name = _WHOLE[shares.by]
        units = _sorted_codes(rows[name].take(pa.array(free)))
        strata = None
    else:
        name, units = "row", np.arange(len(free))
        strata = rows["label"].take(pa.array(free)).to_numpy() if "label" in rows.column_names else None
    codes[free] = _drawn(units, strata, shares, seed, f"{name}s")[units] if len(free) else FREE
    if shares.by == "composition":
        _refuse_torn(rows["formula"], codes)
    if not (codes == 0).any():
        raise UserError("no row is left to train on: the source holds out all of them", allowed="rows of its own")
    return codes


def _drawn(units: NDArray[np.int64], strata: NDArray[Any] | None, shares: Shares, seed: int, what: str) -> Codes:
    """The split of each unit, a row or a group of rows."""
    number = int(units.max()) + 1
    order = np.random.default_rng(seed).permutation(number)
    if strata is not None:
        order = _interleaved(order, strata)
    test, valid = (_count(getattr(shares, name), number, name, what) for name in ("test", "valid"))
    if test + valid >= number:
        raise UserError(f"valid and test take {test + valid} of {number} {what}; nothing is left to train on")
    drawn = np.zeros(number, dtype=np.int8)
    drawn[order[:test]] = SPLITS.index("test")
    drawn[order[test : test + valid]] = SPLITS.index("valid")
    return drawn


def _interleaved(order: NDArray[np.int64], strata: NDArray[Any]) -> NDArray[np.int64]:
    """The rows ordered so that every stretch holds each class in its overall share.

    Row number k of a class with n rows stands at (k + 1/2)/n; sorting by that spreads all classes evenly.
    """
    mine = strata[order]
    by_class = np.argsort(mine, kind="stable")
    _, starts, counts = np.unique(mine[by_class], return_index=True, return_counts=True)
    place = np.empty(len(order))
    place[by_class] = (np.arange(len(order)) - np.repeat(starts, counts) + 0.5) / np.repeat(counts, counts)
    return order[np.argsort(place, kind="stable")]


def _count(share: float, units: int, name: str, what: str) -> int:
    count = int(share) if share >= 1 else round(share * units)
    if share > 0 and count == 0:
        raise UserError(
            f"split.{name} is {share:g} of {units} {what}, which is none", allowed="a larger share, a count, or 0"
        )
    return count


def _sorted_codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Equal texts as equal numbers, in the order of the texts: the order of the rows must not matter."""
    names = pc.unique(column)
    names = names.take(pc.sort_indices(names))
    codes: NDArray[np.int64] = pc.index_in(column, names).to_numpy().astype(np.int64)
    return codes


def _refuse_torn(formulas: pa.ChunkedArray, codes: Codes) -> None:
    pairs = pa.table({"formula": formulas.cast(pa.string()), "split": pa.array(codes)})
    counts = pc.value_counts(pairs.group_by(["formula", "split"]).aggregate([])["formula"])
    torn = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if torn:
        raise UserError(
            f"{len(torn)} formulas are among the rows that the source holds out and among the others: "
            f"{', '.join(sorted(torn)[:3])}",
            allowed="by: random or group; or a source that holds out whole formulas",
        )


def names_of(codes: Codes) -> pa.Array:
    """The codes as texts."""
    return pa.array(SPLITS).take(pa.array(codes.astype(np.int32)))
