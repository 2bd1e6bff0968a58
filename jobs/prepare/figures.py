"""Partial figures of a row group (`cluster.dataset.statistics.measure`) as JSON and back, without losing a digit."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.dataset.moments import Moments


def to_json(part: Mapping[str, Any]) -> dict[str, Any]:
    """Each value with its sort: counts have keys that JSON would make text."""
    return {name: _told(value) for name, value in part.items()}


def from_json(told: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `to_json`."""
    return {name: _meant(sort, value) for name, (sort, value) in told.items()}


def _told(value: Any) -> list[Any]:
    if isinstance(value, Moments):
        return ["moments", [value.count, value.means.tolist(), value.squares.tolist()]]
    if isinstance(value, Mapping):
        return ["counts", [[key, count] for key, count in value.items()]]
    return ["plain", list(value) if isinstance(value, tuple) else value]


def _meant(sort: str, value: Any) -> Any:
    if sort == "moments":
        return Moments(value[0], np.array(value[1]), np.array(value[2]))
    return dict(map(tuple, value)) if sort == "counts" else value
