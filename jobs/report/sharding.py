"""Which rank holds how much of the training state, as the newest committed checkpoint has it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cluster.errors import UserError
from cluster.store import Store
from jobs.checkpoints.commit import committed_steps, read_commit
from jobs.checkpoints.layout import home
from jobs.checkpoints.reading import read_indices


@dataclass(frozen=True)
class Sharding:
    """ranks: for each the bytes of every slot."""

    step: int
    slots: tuple[str, ...]
    ranks: tuple[dict[str, int], ...]


def read_sharding(store: Store, run: str) -> Sharding | None:
    """The layout of the newest checkpoint; None where there is none, or it cannot be read."""
    at = home(run)
    try:
        steps = committed_steps(store, at)
        if not steps:
            return None
        commit = read_commit(store, at, steps[-1])
        indices = read_indices(store, at, commit)
    except UserError:  # a report about a damaged run is still a report
        return None
    ranks = []
    for files in indices:
        held: Counter[str] = Counter()
        for file in files:
            for piece in file.pieces:
                held[piece.slot] += piece.count * piece.width
        ranks.append(dict(held))
    return Sharding(steps[-1], commit.slots, tuple(ranks))


def rows(sharding: Sharding) -> list[list[str]]:
    """A row a rank, ranks that follow each other and hold as much in one; then the sum."""
    found = []
    numbered = enumerate(sharding.ranks)
    for held, group in groupby(numbered, key=lambda pair: pair[1]):
        members = [rank for rank, _ in group]
        name = f"{members[0]}" if len(members) == 1 else f"{members[0]} to {members[-1]}, each"
        found.append([name, *_cells([held.get(slot, 0) for slot in sharding.slots])])
    sums = [sum(held.get(slot, 0) for held in sharding.ranks) for slot in sharding.slots]
    return [*found, ["all", *_cells(sums)]]


def _cells(sizes: Sequence[int]) -> list[str]:
    return [size_of(size) for size in (*sizes, sum(sizes))]


def size_of(number: float) -> str:
    """Bytes as people read them: 1.23 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
