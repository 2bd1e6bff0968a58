"""Which tasks a model can serve, told from its facts alone: no weights are loaded to check a spec."""

from collections.abc import Mapping
from typing import Any

from serve.spec import Task

NEEDS: Mapping[Task, frozenset[str]] = {
    "energy_forces": frozenset({"species", "reference_energies"}),
    "embed": frozenset({"shape", "mean", "std"}),
}


def tasks_of(facts: Mapping[str, Any]) -> tuple[Task, ...]:
    """The tasks that a model with these facts can serve."""
    return tuple(task for task, needed in NEEDS.items() if needed <= facts.keys())
