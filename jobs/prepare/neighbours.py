"""Neighbour lists, found once and stored: a reader whose model has the same cutoff need not search."""

from typing import TYPE_CHECKING

from pydantic import Field

from jobs.prepare.step import Apply, Outcome, Rows, Step, StepSettings, Surroundings

if TYPE_CHECKING:
    from cluster.dataset.schema import Kind


class NeighbourSettings(StepSettings):
    """Up to which distance atoms are neighbours."""

    cutoff: float = Field(gt=0, allow_inf_nan=False)  # angstrom


def lacking(settings: NeighbourSettings, kind: "Kind", columns: frozenset[str]) -> str | None:
    """Only structures have neighbours."""
    return None if kind == "structures" else f"neighbours are those of atoms, and this is a dataset of {kind}"


def make(settings: NeighbourSettings, surroundings: Surroundings) -> Apply:
    """Raises UserError for structures in which two atoms coincide, naming the first."""
    # Not at the top: vesin imports torch, seconds that a check of a spec or a worker that only filters need not spend.
    from jobs.prepare.pairs import with_neighbours

    def apply(rows: Rows) -> Outcome:
        return Outcome(with_neighbours(rows.table, settings.cutoff))

    return apply


NEIGHBOURS = Step(settings=NeighbourSettings, make=make, lacking=lacking)
