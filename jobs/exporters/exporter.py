"""What an exporter is: it is told of a run once, of its steps now and then, and that it is over."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.store import Store


@dataclass(frozen=True)
class About:
    """The run that is exported. attempt: which start of its workers. settings: its spec as JSON."""

    run: str
    name: str
    attempt: int
    store: Store
    settings: Mapping[str, Any] = field(default_factory=dict)


class Exporter(Protocol):
    """Made as `start(about)` by its module; whatever it raises switches it off, and nothing else."""

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of `jobs.recording.history`: step, attempt, time (UTC), and the numbers measured at that step."""
        ...

    def end(self) -> None:
        """No more will come of this attempt."""
        ...


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The measurements of a row without its coordinates; what is no finite number would be refused by some servers."""
    return {name: value for name, value in row.items() if isinstance(value, float) and math.isfinite(value)}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"schedule.steps": "2000", ...}: nested settings as pairs of text."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{path}.")
        else:
            found[path] = str(value)
    return found
