"""Close pairs of many small periodic structures: of all atoms with all images that are near the cell.

Shapes: C structures, n atoms together, G images of atoms, the atoms themselves among them. Lengths in angstrom.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from equimodels.models.all_pairs import Block, CoincidentError, Flags, Integers, Points, close_pairs
from equimodels.models.crystals import Crystals
from equimodels.models.lattice import translation, widths


@dataclass(frozen=True)
class Images:
    """Images of the atoms of crystals: `points`, atom by atom; atom (G,); shift (3, G), by which they are moved."""

    points: Points
    atom: Integers
    shift: Integers


def images_near(crystals: Crystals, reach: float) -> Images:
    """All images of atoms that may be within `reach` of an atom of their structure. Every structure has atoms."""
    inverses = np.asarray(np.linalg.inv(crystals.cells), dtype=np.float64)
    share = reach / widths(crystals.cells)
    most = np.where(crystals.pbc, np.ceil(share), 0).astype(np.int64)
    spans = 2 * most + 1
    kinds = spans.prod(axis=1)

    # The images of each structure, then those of each atom as numbers among them.
    structure, number = _counted(kinds)
    shifts = np.empty((3, len(structure)), dtype=np.int64)
    for axis in (2, 1, 0):
        shifts[axis] = number % spans[structure, axis] - most[structure, axis]
        number //= spans[structure, axis]
    steps = np.stack([translation(shifts, crystals.cells, structure, axis) for axis in range(3)])
    atom, kind = _counted(kinds[crystals.owner])
    owner = crystals.owner.take(atom)
    kind += (np.cumsum(kinds) - kinds).take(owner)

    near = np.ones(len(atom), dtype=np.bool_)
    for axis in range(3):
        height = translation(crystals.inside, inverses, crystals.owner, axis)
        lowest = np.minimum.reduceat(height, crystals.first) - share[:, axis]
        highest = np.maximum.reduceat(height, crystals.first) + share[:, axis]
        place = height.take(atom) + shifts[axis].take(kind)
        near &= (place >= lowest.take(owner)) & (place <= highest.take(owner))
    atom, kind = atom[near], kind[near]
    counts = np.bincount(crystals.owner.take(atom), minlength=len(kinds))
    positions = crystals.inside.take(atom, axis=1) + steps.take(kind, axis=1)
    return Images(Points(positions, np.cumsum(counts) - counts, counts), atom, shifts.take(kind, axis=1))


def image_pairs(crystals: Crystals, images: Images, cutoff: float) -> Iterator[Block]:
    """Pairs of atoms and images no farther apart than `cutoff` in coordinates as given.

    Raises CoincidentError, with numbers among all atoms.
    """

    def decide(senders: Integers, receivers: Integers) -> Flags:
        receiver, shift = images.atom.take(receivers), images.shift.take(receivers, axis=1)
        seen = crystals.images(senders, receiver, shift)
        within: Flags = crystals.squared_distances(senders, receiver, seen) <= cutoff**2
        return within

    senders = Points(crystals.inside, crystals.first, crystals.sizes)
    itself = np.flatnonzero(~images.shift.any(axis=0))
    try:
        yield from close_pairs(senders, images.points, itself, cutoff, 4 * cutoff * crystals.rounding(), decide)
    except CoincidentError as error:
        raise crystals.coincident(error.one, int(images.atom[error.two]), images.shift[:, error.two]) from None


def _counted(counts: Integers) -> tuple[Integers, Integers]:
    """Of counts (C,): number 0 that many times, then 1, ...; and beside each a count from 0 that starts anew."""
    number = np.repeat(np.arange(len(counts)), counts)
    return number, np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
