"""The order of samples: a pure function of (seed, epoch), the same for any number of workers, threads and restarts.

Rows lie on the store in row groups. An epoch visits the groups in a random order, `window` groups at a time, and
shuffles all rows within each window. So a reader holds one window, reads every group once an epoch and nothing in small
pieces, and the sample at any position is found without going through those before it. A dataset of no more groups than
the window is shuffled as a whole. Shapes: G groups, n rows of a window.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
# Separate streams of random numbers. Leading, because numpy's seeds (s, e) and (s, e, 0) are the same.
_GROUPS, _ROWS = 0, 1


@dataclass(frozen=True)
class Order:
    """How samples are ordered: `window` groups are shuffled together; unshuffled, all rows come as they lie."""

    seed: int = 0
    window: int = 8
    shuffle: bool = True


@dataclass(frozen=True)
class Window:
    """One window of an epoch: its number, the positions it spans, and its groups in the order they are visited."""

    epoch: int
    number: int
    start: int
    stop: int
    groups: tuple[int, ...]


def window_at(rows: tuple[int, ...], order: Order, epoch: int, position: int) -> Window:
    """The window that holds the sample at `position` of the epoch. rows: (G,) rows of each group.

    Raises IndexError for a position outside the epoch.
    """
    visited, starts = _visits(rows, order, epoch)
    if not 0 <= position < starts[-1]:
        raise IndexError(f"position {position} of an epoch of {starts[-1]} samples")
    number = int(np.searchsorted(starts, position, side="right")) - 1
    groups = visited[number * order.window : (number + 1) * order.window]
    return Window(epoch, number, int(starts[number]), int(starts[number + 1]), tuple(groups.tolist()))


def rows_in_order(window: Window, order: Order) -> Integers:
    """Which row stands at each position of the window: (n,) numbers into its groups' rows, one group after another."""
    count = window.stop - window.start
    if not order.shuffle:
        return np.arange(count)
    return np.random.default_rng((_ROWS, order.seed, window.epoch, window.number)).permutation(count)


def epoch_order(rows: tuple[int, ...], order: Order, epoch: int) -> Integers:
    """The row at every position of an epoch, (sum of rows,): the slow, obvious whole of the above."""
    first = np.concatenate([[0], np.cumsum(rows)])
    parts = []
    position = 0
    while position < first[-1]:
        window = window_at(rows, order, epoch, position)
        lying = np.concatenate([np.arange(first[group], first[group + 1]) for group in window.groups])
        parts.append(lying[rows_in_order(window, order)])
        position = window.stop
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


@lru_cache(maxsize=4)
def _visits(rows: tuple[int, ...], order: Order, epoch: int) -> tuple[Integers, Integers]:
    """The groups as the epoch visits them (G,), and the position at which each window starts, then the end."""
    groups = np.arange(len(rows))
    if order.shuffle:
        groups = np.random.default_rng((_GROUPS, order.seed, epoch)).permutation(len(rows))
    counts = np.asarray(rows, dtype=np.int64)[groups]
    ends = np.concatenate([[0], np.cumsum(counts)])
    places = np.minimum(np.arange(0, len(rows) + order.window, order.window), len(rows))
    return groups, ends[places]
