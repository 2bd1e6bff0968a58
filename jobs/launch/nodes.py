"""Nodes of the cluster that are about to go."""

from collections.abc import Iterable


def leaving(nodes: Iterable[str]) -> set[str]:
    """Those of the given nodes (ids) that Ray drains: a cloud takes them back, or `ray start` got SIGTERM."""
    from ray._private.state import state  # no public function tells it; Ray Train asks here as well

    draining: dict[str, int] = state.get_draining_nodes() or {}
    return set(draining).intersection(nodes)
