"""Random splits: of the rows a reader left unassigned, the same for the same seed."""

from collections.abc import Sequence

import numpy as np

from cluster.errors import UserError
from jobs.ingest.reading import UNASSIGNED
from jobs.spec.dataset import RandomSplit


def assign_splits(
    given: Sequence[str], strata: Sequence[int] | None, split: RandomSplit, seed: int
) -> list[str]:
    """The split of each row; `given` ones that a reader decided stay.

    strata: a class for each row; each class gives its share to each split, to within one row. Raises
    UserError where nothing is left to train on.
    """
    free = np.array([i for i, name in enumerate(given) if name == UNASSIGNED], dtype=np.int64)
    names = list(given)
    order = np.random.default_rng(seed).permutation(free)
    if strata is not None:
        order = _interleaved(order, np.asarray(strata))
    test, valid = (_rows(share, len(free)) for share in (split.test, split.valid))
    if test + valid >= len(free):
        raise UserError(
            f"valid and test take {test + valid} of {len(free)} rows; nothing is left to train on"
        )
    for place, index in enumerate(order):
        names[index] = "test" if place < test else "valid" if place < test + valid else "train"
    return names


def _interleaved(order: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """The rows ordered so that every stretch holds each class in its overall share.

    Row number k of a class with n rows stands at (k + 1/2)/n; sorting by that spreads all classes evenly.
    """
    place = np.empty(len(order))
    for label in np.unique(strata[order]):
        where = np.flatnonzero(strata[order] == label)
        place[where] = (np.arange(len(where)) + 0.5) / len(where)
    return order[np.argsort(place, kind="stable")]


def _rows(share: float, rows: int) -> int:
    return int(share) if share >= 1 else round(share * rows)
