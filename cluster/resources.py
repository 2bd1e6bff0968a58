"""Whether a cluster can ever hold a request: arithmetic on numbers that somebody else has looked up.

A request is `workers` equal processes that must run at the same time; each one lives on a single node. What is free
at the moment does not matter here: a request that fits in an idle cluster waits for its turn.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor

UNITS = {"CPU": "CPUs", "GPU": "GPUs"}
SLACK = 1e-9  # ten workers of 0.1 CPU do fit on one CPU


@dataclass(frozen=True)
class NodeGroup:
    """Equal nodes: what one of them has, and how many there may be at most."""

    name: str
    cpus: float
    gpus: float
    count: int

    def holds(self, cpus: float, gpus: float) -> int:
        """How many workers of that size one node has room for; 1 if they need nothing."""
        limits = [(self.cpus, cpus), (self.gpus, gpus)]
        return min((floor(has / needs + SLACK) for has, needs in limits if needs > 0), default=1)


def fits(
    *,
    workers: int,
    cpus: float,
    gpus: float,
    capacity: Mapping[str, float] | None = None,
    groups: Iterable[NodeGroup] | None = None,
    of: str = "worker",
) -> str | None:
    """Why the request can never be met, or None if it can, or if nothing is known.

    workers: processes at once; cpus, gpus: of each. capacity: what the cluster has at most, {"CPU": n, "GPU": n}.
    groups: its nodes, where known; they also tell that a worker is larger than any node.
    of: what one of the workers is called.
    """
    if capacity is not None:
        lacking = _lacking({"CPU": workers * cpus, "GPU": workers * gpus}, capacity)
        if lacking:
            return f"{_request(workers, of, cpus, gpus)} need {lacking}"
    if groups is None:
        return None
    known = list(groups)
    if not known:
        return f"{_request(workers, of, cpus, gpus)}: the cluster has no worker nodes"
    if any(group.holds(cpus, gpus) > 0 for group in known):
        most = sum(group.count * group.holds(cpus, gpus) for group in known)
        if most >= workers:
            return None
        return f"{_request(workers, of, cpus, gpus)}: the cluster can have at most {most}, on {_nodes(known)}"
    return f"a {of} of {_amounts(cpus, gpus)} is larger than any node of the cluster: {_nodes(known)}"


def _lacking(needed: Mapping[str, float], capacity: Mapping[str, float]) -> str:
    """`16 CPUs; the cluster has at most 4`, for each that is short."""
    return " and ".join(
        f"{_number(amount)} {UNITS[name]}; the cluster has at most {_number(capacity.get(name, 0.0))}"
        for name, amount in needed.items()
        if amount > capacity.get(name, 0.0) + SLACK
    )


def _request(workers: int, of: str, cpus: float, gpus: float) -> str:
    return f"{workers} {of}{'' if workers == 1 else 's'} of {_amounts(cpus, gpus)}"


def _amounts(cpus: float, gpus: float) -> str:
    return f"{_number(cpus)} CPU" + (f" and {_number(gpus)} GPU" if gpus else "")


def _nodes(groups: Iterable[NodeGroup]) -> str:
    return ", ".join(f"{group.count} x {group.name} ({_amounts(group.cpus, group.gpus)})" for group in groups)


def _number(value: float) -> str:
    return f"{value:.12g}"
