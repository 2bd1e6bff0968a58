"""Splits of the rows that a reader left unassigned, the same for the same seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError
from jobs.ingest.reading import UNASSIGNED
from jobs.spec.dataset import Shares


@dataclass(frozen=True)
class Unsplit:
    """What decides the split of one row."""

    given: str  # the reader's decision, or UNASSIGNED
    group: str
    stratum: int = 0  # its class, whose share each split keeps


def assign_splits(rows: Sequence[Unsplit], shares: Shares, seed: int) -> list[str]:
    """The split of each row. Raises UserError where nothing is left to train on."""
    free = [i for i, row in enumerate(rows) if row.given == UNASSIGNED]
    if shares.by == "group":
        groups: dict[str, list[int]] = {}
        for i in free:
            groups.setdefault(rows[i].group, []).append(i)
        units = [groups[name] for name in sorted(groups)]
    else:
        units = [[i] for i in free]
    order = np.random.default_rng(seed).permutation(len(units))
    if shares.by == "random":
        order = _interleaved(order, np.array([rows[unit[0]].stratum for unit in units]))
    test, valid = (_count(share, len(units)) for share in (shares.test, shares.valid))
    if test + valid >= len(units):
        what = "groups" if shares.by == "group" else "rows"
        raise UserError(f"valid and test take {test + valid} of {len(units)} {what}; nothing is left to train on")
    names = [row.given for row in rows]
    for place, unit in enumerate(order):
        for i in units[unit]:
            names[i] = "test" if place < test else "valid" if place < test + valid else "train"
    return names


def _interleaved(order: NDArray[np.int64], strata: NDArray[Any]) -> NDArray[np.int64]:
    """The rows ordered so that every stretch holds each class in its overall share.

    Row number k of a class with n rows stands at (k + 1/2)/n; sorting by that spreads all classes evenly.
    """
    place = np.empty(len(order))
    for label in np.unique(strata[order]):
        where = np.flatnonzero(strata[order] == label)
        place[where] = (np.arange(len(where)) + 0.5) / len(where)
    return order[np.argsort(place, kind="stable")]


def _count(share: float, units: int) -> int:
    return int(share) if share >= 1 else round(share * units)
