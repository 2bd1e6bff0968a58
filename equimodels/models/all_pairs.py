"""Close pairs of many small structures: all pairs are looked at, a block of structures at a time.

Shapes: B structures, N atoms together, E directed pairs. Lengths in angstrom. Up to about 500 atoms this beats any cell
list: the squared distances of a block are eight vector passes over memory that stays in the cache, and the pairs found
come out in order without sorting.
"""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

COINCIDENT = 1e-6  # angstrom; below, the direction of an edge has no meaning
BLOCK = 65_536  # pairs looked at together: 1.1 MB of scratch
PADDING = 16_000  # pairs that may be looked at in vain to save a block, which costs forty calls of numpy

_kept = threading.local()  # scratch of each thread: the pages of a fresh one take longer than the distances


@dataclass(frozen=True)
class Block:
    """Pairs of some structures, which were looked at together as if all had as many atoms as the largest.

    structures (k,), rising in size; first (k,), their first atoms; width, atoms of the largest; counts (k,), pairs of
    each; found, numbers of its pairs among the k * width * width.
    """

    structures: Integers
    first: Integers
    width: int
    counts: Integers
    found: NDArray[np.int32]

    def write(self, edges: Integers, starts: Integers) -> None:
        """Write the pairs into edges (2, E), those of each structure from its place in `starts` (B,) on.

        Within a structure by sender, then receiver.
        """
        row = self.found // self.width
        first = self.first.repeat(self.width)
        atoms = first + np.tile(np.arange(self.width), len(self.first))
        place = places(self.structures, self.counts, starts)
        sender, receiver = edges  # as two arrays they are written to twice as fast as through one index of both
        sender[place] = atoms.take(row)
        receiver[place] = first.take(row) + (self.found - row * self.width)


def places(structures: Integers, counts: Integers, starts: Integers) -> slice | Integers:
    """Where the pairs of some structures, `counts` (k,) each and one after the other, go; all start at starts (B,)."""
    begin, total = starts[structures], int(counts.sum())
    if (np.diff(structures) == 1).all():
        return slice(int(begin[0]), int(begin[0]) + total)
    scattered: Integers = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(total)
    return scattered


def all_close_pairs(positions: Floats, sizes: Integers, chosen: Integers, cutoff: float) -> Iterator[Block]:
    """Pairs of the `chosen` structures, none periodic, no farther apart than `cutoff`, in both directions.

    positions (N, 3) and sizes (B,) of all structures. The test is (x^2 + y^2) + z^2 <= cutoff^2 in float64, whatever
    the company. Raises ValueError for atoms that coincide.
    """
    starts, columns = np.cumsum(sizes) - sizes, np.ascontiguousarray(positions.T)
    order = chosen[np.argsort(sizes[chosen], kind="stable")]
    for part in _parts(sizes[order]):
        structures = order[part]
        first, own = starts[structures], sizes[structures]
        width = int(own[-1])
        scratch, other, mask = _scratch((len(own), width, width))
        x = columns.take(first[:, None] + np.arange(width), axis=1, mode="clip")
        # A structure smaller than the block is wide ends in NaN, which is close to nothing.
        x[:, np.arange(width) >= own[:, None]] = np.nan
        squared = _squared_distances(x, scratch, other)
        if np.less(squared, COINCIDENT**2, out=mask).any():
            structure, one, two = (int(index) for index in np.argwhere(mask)[0])
            raise coincidence(int(structures[structure]), len(sizes), one, two)
        found = np.flatnonzero(np.less_equal(squared, cutoff**2, out=mask))
        counts = np.diff(np.searchsorted(found, np.arange(len(own) + 1) * width**2))
        yield Block(structures, first, width, counts, found.astype(np.int32))


def coincidence(structure: int, structures: int, one: int, two: int, image: bool = False) -> ValueError:
    """The error for atom `one` and atom `two`, or an image of it, on one spot; names the structure among several."""
    where = f"structure {structure}: " if structures > 1 else ""
    which = f"atom {one} and a periodic image of atom {two}" if image else f"atoms {one} and {two}"
    return ValueError(f"{where}{which} coincide (closer than {COINCIDENT} angstrom)")


def _parts(sizes: Integers) -> Iterator[slice]:
    """Parts of the ascending `sizes` to look at together; those below two atoms are left out."""
    squares = np.concatenate([[0], np.cumsum(sizes**2)])
    begin = int(np.searchsorted(sizes, 2))
    while begin < len(sizes):
        most = max(1, BLOCK // int(sizes[begin]) ** 2)
        ends = np.arange(begin + 1, min(begin + most, len(sizes)) + 1)
        looked_at = sizes[ends - 1] ** 2 * (ends - begin)
        in_vain = looked_at - (squares[ends] - squares[begin])
        # Both grow with the end, so that those allowed come first. One structure is always allowed.
        end = begin + max(1, int(np.count_nonzero((looked_at <= BLOCK) & (in_vain <= PADDING))))
        yield slice(begin, end)
        begin = end


def _scratch(shape: tuple[int, int, int]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Two arrays of floats and one of booleans, this thread's until its next call."""
    pairs = math.prod(shape)
    if getattr(_kept, "pairs", 0) < pairs:
        _kept.pairs = max(pairs, BLOCK)
        _kept.arrays = [np.empty(_kept.pairs, dtype) for dtype in (np.float64, np.float64, np.bool_)]
    one, two, three = (array[:pairs].reshape(shape) for array in _kept.arrays)
    return one, two, three


def _squared_distances(x: Floats, squared: Floats, scratch: Floats) -> Floats:
    """x (3, k, n) to (k, n, n), in `squared`; infinite between an atom and itself."""
    for axis, out in enumerate((squared, scratch, scratch)):
        np.subtract(x[axis, :, None, :], x[axis, :, :, None], out=out)
        np.multiply(out, out, out=out)
        if axis:
            np.add(squared, out, out=squared)
    squared.reshape(len(squared), -1)[:, :: squared.shape[1] + 1] = np.inf
    return squared
