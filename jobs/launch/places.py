"""Places for workers: bundles of resources that Ray reserves together, or not at all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.util.placement_group import PlacementGroup, PlacementGroupID, placement_group, remove_placement_group

FIRST_WAIT_S = 5.0  # an elastic run takes what is free after so long; a node that is booting may join it later
WAIT_S = 0.5


@dataclass(frozen=True)
class Places:
    """Reserved, or asked for: `size` bundles."""

    size: int
    group: Any

    @classmethod
    def ask(cls, size: int, resources: dict[str, float]) -> "Places":
        """Ask for so many; an autoscaler hears of it too."""
        return cls(size, placement_group([dict(resources)] * size, strategy="PACK"))

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether they are reserved, after so many seconds at most."""
        return bool(self.group.wait(max(seconds, 0.01)))

    def give_back(self) -> None:
        """Others may have them."""
        remove_placement_group(self.group)


def give_back(digits: str | None) -> None:
    """End whatever is in these places, if there are any: a placement group by the digits of its id."""
    if digits is not None:
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(digits)))


def reserve(
    possible: Sequence[int], resources: dict[str, float], *, waiting: Callable[[int], None], first: float = FIRST_WAIT_S
) -> Places:
    """The largest of the `possible` sizes that can be had soon; waits as long as it takes for the smallest.

    waiting: told the size now and then, while nothing is free.
    """
    while True:
        for size in sorted(possible, reverse=True):
            places = Places.ask(size, resources)
            deadline = time.monotonic() + first
            while not places.ready(WAIT_S):
                if time.monotonic() > deadline and len(possible) > 1:
                    break
                if time.monotonic() > deadline:
                    waiting(size)
            else:
                return places
            places.give_back()
            first = WAIT_S
        waiting(min(possible))
