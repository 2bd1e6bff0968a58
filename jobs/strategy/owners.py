"""Which rank speaks for which parameter, where all ranks hold all of them."""

from collections.abc import Mapping


def owners(sizes: Mapping[str, int], ranks: int) -> dict[str, int]:
    """A rank for each parameter, numbers balanced: the largest first, each to the rank that has least so far."""
    loads, found = [0] * ranks, {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        rank = loads.index(min(loads))
        found[name] = rank
        loads[rank] += sizes[name]
    return found
