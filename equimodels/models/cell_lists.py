"""Close pairs of periodic and of large structures by cell lists, through the library vesin.

Shapes: B structures, N atoms together, E directed pairs. Lengths in angstrom. The library looks for pairs within a
little more than the cutoff; which of them count is decided here, in coordinates as they were given.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from vesin import NeighborList

from equimodels.models.all_pairs import COINCIDENT, coincidence
from equimodels.models.lattice import boxed, completed, images_of, require_few_images, translation

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ROUNDING = 1e-6  # angstrom by which the library looks farther than the cutoff
LARGEST_KEY = 2**62  # above, a pair with its shift does not fit one integer to sort by
MOST_CELLS = 1e5  # MAX_NUMBER_OF_CELLS of vesin 0.6


class ListedPairs(NamedTuple):
    """edges (2, E) [sender, receiver]; images (E, 3), the S of r_receiver - r_sender + S @ cell; counts, one each."""

    edges: Integers
    images: Integers
    counts: Integers


def pairs_by_cell_list(
    positions: Floats, sizes: Integers, chosen: Integers, cutoff: float, cells: Floats, pbc: Flags
) -> ListedPairs:
    """Pairs of the `chosen` structures no farther apart than `cutoff`, by structure, sender, receiver and image.

    positions (N, 3) and sizes (B,) of all structures; chosen, rising; cells and pbc of the chosen. One call of the
    library each. The test is (x^2 + y^2) + z^2 <= cutoff^2 in float64 with (x, y, z) = (r_j - r_i) + S @ cell.
    Raises ValueError for a cell that is singular or tiny, and atoms that coincide or are far beyond the cell.
    """
    atoms = np.flatnonzero(np.repeat(np.isin(np.arange(len(sizes)), chosen), sizes))
    structures, sizes, cells = len(sizes), sizes[chosen], completed(cells, pbc)
    require_few_images(cells, pbc, cutoff)
    first, owner = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(chosen)), sizes)
    x = np.ascontiguousarray(positions[atoms].T)
    # Far outside of the cell the library overflows, so atoms are moved into it.
    moved = images_of(x, cells, pbc, owner)
    inside = (x - np.stack([translation(moved, cells, owner, axis) for axis in range(3)])).T
    reach = cutoff + ROUNDING + 1e-14 * float(np.abs(x).max(initial=0.0))
    one, two, shift = _candidates(inside, first, sizes, reach, cells, pbc)

    where, images = owner[one], _between(moved, one, two, shift)
    distance = np.zeros(len(one))
    for axis in range(3):
        step = x[axis].take(two) - x[axis].take(one)
        step += translation(images, cells, where, axis)
        distance += step * step
    kept = distance <= cutoff**2
    for axis in range(3):  # a shift where nothing repeats belongs to the box that the library was given
        kept &= (shift[axis] == 0) | pbc[:, axis].take(where)
    close = np.flatnonzero(kept & (distance < COINCIDENT**2))
    if len(close):
        i, j = (int(end[close[0]] - first[where[close[0]]]) for end in (one, two))
        raise coincidence(int(chosen[where[close[0]]]), structures, i, j, image=bool(images[:, close[0]].any()))
    if not kept.all():
        one, two, shift = one[kept], two[kept], shift[:, kept]
    sender, receiver, shift = _both_directions(one, two, shift, len(atoms))
    counts = np.diff(np.searchsorted(sender, np.append(first, len(atoms))))
    images = np.ascontiguousarray(_between(moved, sender, receiver, shift).T)
    return ListedPairs(np.stack([atoms.take(sender), atoms.take(receiver)]), images, counts)


def _between(moved: Integers, one: Integers, two: Integers, shift: Integers) -> Integers:
    """Images (3, m) by which `two` is away from `one`, where atoms were moved by `moved` (3, n) and then by `shift`."""
    if not moved.any():
        return shift
    away = shift.copy()
    for axis in range(3):
        away[axis] += moved[axis].take(one)
        away[axis] -= moved[axis].take(two)
    return away


def _candidates(
    inside: Floats, first: Integers, sizes: Integers, reach: float, cells: Floats, pbc: Flags
) -> tuple[Integers, Integers, Integers]:
    """Pairs (m,), (m,) in one direction with shifts (3, m): all within `reach`, and maybe some that are not."""
    # One thread, since its pool of threads serves one call at a time; callers have threads of their own.
    library = NeighborList(cutoff=reach, full_list=False, n_threads=1)
    pairs, shifts = [np.empty((0, 2), dtype=np.int64)], [np.empty((0, 3), dtype=np.int32)]
    for number in np.flatnonzero(sizes):
        start = first[number]
        points, box = boxed(inside[start : start + sizes[number]], cells[number], pbc[number], reach)
        library.cutoff = _search_radius(box, reach)
        found, shift = library.compute(points=points, box=box, periodic=True, quantities="PS", copy=False)
        pairs.append(found.astype(np.int64) + start)  # the library's own memory, overwritten by the next call
        shifts.append(shift.copy())
    one, two = np.ascontiguousarray(np.concatenate(pairs).T)
    return one, two, np.ascontiguousarray(np.concatenate(shifts).T, dtype=np.int64)


def _both_directions(one: Integers, two: Integers, shift: Integers, atoms: int) -> tuple[Integers, Integers, Integers]:
    """Pairs (m,), (m,) and shifts (3, m) and their mirror images, sorted by sender, receiver and shift."""
    largest = np.abs(shift).max(axis=1, initial=0).tolist()
    if math.prod([atoms, atoms, *(2 * most + 1 for most in largest)]) > LARGEST_KEY:
        columns = np.hstack([np.stack([one, two, *shift]), np.stack([two, one, *-shift])])
        columns = columns[:, np.lexsort(columns[::-1])]
        return columns[0], columns[1], columns[2:]
    # As one integer each they are sorted ten times as fast, and nothing has to be gathered.
    key = np.concatenate([one * atoms + two, two * atoms + one])
    shifts = np.zeros((3, len(key)), dtype=np.int64)
    moving = [axis for axis in range(3) if largest[axis]]
    for axis in moving:
        key *= 2 * largest[axis] + 1
        key += largest[axis]
        key[: len(one)] += shift[axis]
        key[len(one) :] -= shift[axis]
    key.sort()
    for axis in reversed(moving):
        rest = key // (2 * largest[axis] + 1)
        np.subtract(key, rest * (2 * largest[axis] + 1) + largest[axis], out=shifts[axis])
        key = rest
    sender = key // atoms
    return sender, key - sender * atoms, shifts


def _search_radius(box: Floats, reach: float) -> float:
    """At least `reach`, and such that vesin 0.6 divides the box into one cell or more along each direction.

    It bounds the number of cells by a formula that rounds to none for boxes a million times longer than wide; the
    process then dies of a division by zero.
    """
    widths = (1 / np.linalg.norm(np.linalg.inv(box), axis=0)).tolist()
    while True:
        a, b, c = (max(1.0, width // reach) for width in widths)
        if a * b * c <= MOST_CELLS:
            return reach
        fewer_c = math.cbrt(MOST_CELLS / ((a / b) * (b / c) ** 2)) // 1
        fewer_b = (b / c * fewer_c) // 1
        if min(fewer_c, fewer_b, a / b * fewer_b) >= 1:
            return reach
        reach *= 2
