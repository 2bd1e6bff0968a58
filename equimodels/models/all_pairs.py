"""Close pairs of many small structures: all pairs are looked at, a block of structures at a time.

Shapes: C structures, k of them in a block, M points. Lengths in angstrom. Up to about 500 atoms this beats any cell
list: the squared distances of a block are eight vector passes over memory that stays in the cache, and the pairs found
come out in order without sorting.
"""

import math
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COINCIDENT = 1e-6  # angstrom; below, the direction of an edge has no meaning
BLOCK = 65_536  # pairs looked at together: 1.1 MB of scratch
PADDING = 16_000  # pairs that may be looked at in vain to save a block, which costs fifty calls of numpy

_kept = threading.local()  # scratch of each thread: the pages of a fresh one take longer than the distances


class Points(NamedTuple):
    """positions (3, M), the points of one structure after the other; first (C,) and counts (C,), which are whose."""

    positions: Floats
    first: Integers
    counts: Integers


class Block(NamedTuple):
    """What was found in structures that were looked at together: senders (m,), receivers (m,), numbers of points.

    structures (k,), numbers among the C, with counts (k,) pairs each, one after the other, by sender, then receiver.
    """

    structures: Integers
    counts: Integers
    senders: NDArray[np.int32]
    receivers: NDArray[np.int32]


class CoincidentError(Exception):
    """Points number `one` and `two` are on one spot; `image`, whether the second is a periodic image."""

    def __init__(self, one: int, two: int, image: bool = False) -> None:
        super().__init__(one, two, image)
        self.one, self.two, self.image = one, two, image


def close_pairs(
    senders: Points,
    receivers: Points,
    itself: Integers,
    cutoff: float,
    doubt: float = 0.0,
    decide: Callable[[Integers, Integers], Flags] | None = None,
) -> Iterator[Block]:
    """Pairs of a sender and a receiver of the same structure no farther apart than `cutoff`.

    itself (M,), the number of each sender among the receivers, which makes no pair. The test is
    (x^2 + y^2) + z^2 <= cutoff^2 in float64, whatever the company; where the two sides differ by no more than `doubt`,
    `decide` is asked, with the numbers (m,) of senders and receivers. Raises CoincidentError.
    """
    order = np.argsort(senders.counts * (receivers.counts.max(initial=0) + 1) + receivers.counts, kind="stable")
    for part in _parts(senders.counts[order], receivers.counts[order]):
        structures = order[part]
        sender, x = _gathered(senders, structures)
        receiver, y = _gathered(receivers, structures)
        shape = len(structures), sender.shape[1], receiver.shape[1]
        squared, scratch, near = _scratch(shape)
        _square_distances(x, y, squared, scratch)
        rows = squared.reshape(-1, shape[2])
        own = itself.take(sender, mode="clip") - receiver[:, :1]
        rows[np.arange(len(rows)), own.ravel().clip(0, shape[2] - 1)] = np.inf
        if np.less(squared, COINCIDENT**2, out=near).any():
            s, i, j = np.argwhere(near)[0]
            raise CoincidentError(int(sender[s, i]), int(receiver[s, j]))
        np.less_equal(squared, cutoff**2 + doubt, out=near)
        if decide is not None:
            unsure = np.flatnonzero(near & (squared > cutoff**2 - doubt))
            if len(unsure):
                s, i, j = np.unravel_index(unsure, shape)
                near.ravel()[unsure] = decide(sender[s, i], receiver[s, j])
        found = np.flatnonzero(near)
        counts = np.diff(np.searchsorted(found, np.arange(shape[0] + 1) * (shape[1] * shape[2])))
        row = found // shape[2]
        found -= row * shape[2]
        found += receivers.first[structures].repeat(shape[1]).take(row)
        yield Block(structures, counts, sender.ravel().astype(np.int32).take(row), found.astype(np.int32))


def _parts(rows: Integers, columns: Integers) -> Iterator[slice]:
    """Parts of structures with `rows` (C,), rising, times `columns` (C,) pairs to look at together."""
    pairs = np.concatenate([[0], np.cumsum(rows * columns)])
    begin = int(np.searchsorted(rows, 1))
    while begin < len(rows):
        most = max(1, BLOCK // int(rows[begin] * columns[begin]))
        window = slice(begin, begin + most)
        together = np.arange(1, len(rows[window]) + 1)
        looked_at = rows[window] * np.maximum.accumulate(columns[window]) * together
        in_vain = looked_at - (pairs[begin + together] - pairs[begin])
        # Both grow with the end, so that those allowed come first. One structure is always allowed.
        end = begin + max(1, int(np.count_nonzero((looked_at <= BLOCK) & (in_vain <= PADDING))))
        yield slice(begin, end)
        begin = end


def _gathered(points: Points, structures: Integers) -> tuple[Integers, Floats]:
    """Numbers (k, w) and positions (3, k, w) of the points of structures, of which the largest has w.

    The smaller ones end in NaN, which is close to nothing.
    """
    counts = points.counts[structures]
    along = np.arange(int(counts.max()))
    numbers = points.first[structures][:, None] + along
    x = points.positions.take(numbers, axis=1, mode="clip")
    if (counts < len(along)).any():
        x[:, along >= counts[:, None]] = np.nan
    return numbers, x


def _scratch(shape: tuple[int, int, int]) -> tuple[Floats, Floats, Flags]:
    """Two arrays of floats and one of booleans, this thread's until its next call."""
    pairs = math.prod(shape)
    if getattr(_kept, "pairs", 0) < pairs:
        _kept.pairs = max(pairs, BLOCK)
        _kept.arrays = [np.empty(_kept.pairs, dtype) for dtype in (np.float64, np.float64, np.bool_)]
    one, two, three = (array[:pairs].reshape(shape) for array in _kept.arrays)
    return one, two, three


def _square_distances(x: Floats, y: Floats, squared: Floats, scratch: Floats) -> None:
    """From x (3, k, n) to y (3, k, m), into squared (k, n, m)."""
    for axis, out in enumerate((squared, scratch, scratch)):
        np.subtract(y[axis, :, None, :], x[axis, :, :, None], out=out)
        np.multiply(out, out, out=out)
        if axis:
            np.add(squared, out, out=squared)
