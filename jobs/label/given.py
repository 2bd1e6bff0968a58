"""One Ray task: the structures of a chunk, labelled as they are, and staged on the store before the task returns.

A staged chunk is finished work and is never computed again. Its bytes are a function of its structures and the method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.dataset.conform import conform_piece
from cluster.store import open_store
from jobs.ingest.content import row_bytes
from jobs.ingest.source import Unread
from jobs.ingest.staging import Index, stage
from jobs.label.calculators import find_method
from jobs.label.labels import Labels, can, compute_labels, reason
from jobs.label.rows import given_table
from jobs.label.sources import Given
from jobs.spec.frozen import Component


@dataclass(frozen=True)
class Work:
    """All that a chunk needs to know beside its structures."""

    store: str
    run: str
    digest: str  # of what decides the labels: a chunk of another spec is not this run's work
    method: Component
    stress: bool  # every structure of the source repeats, and its lattice spans a volume

    def digest_of(self, number: int) -> str:
        """The digest of one chunk."""
        return f"{self.digest}-{number}"


@dataclass(frozen=True)
class Labelled:
    """What a chunk gave: rows, and which structures could not be computed and why."""

    table: pa.Table | None  # None where no structure could be
    failures: tuple[Unread, ...]


def label_chunk(work: Work, number: int, given: Sequence[Given]) -> tuple[int, Index]:
    """Label the structures and stage them; returns number and index. Raises UserError for settings that are refused."""
    labelled = compute(work, given)
    names = ["id", "group", "split"]
    if labelled.table is None:
        table, rows = pa.table({}), pa.table({name: pa.array([], pa.string()) for name in names})
    else:
        table = conform_piece(labelled.table, "structures")
        rows = table.select(names)
        table = table.drop_columns(["split"])
        rows = rows.append_column("bytes", pa.array(row_bytes(table)))
    index = Index(
        digest=work.digest_of(number),
        rows=rows,
        schema=table.schema if len(table) else None,
        unread=labelled.failures,
        unread_count=len(labelled.failures),
    )
    stage(open_store(work.store), work.run, number, table, index)
    return number, index


def compute(work: Work, given: Sequence[Given]) -> Labelled:
    """Each structure with its labels, or why it has none; the result for one depends on no other."""
    method = find_method(work.method)
    calculators: dict[str, Any] = {}  # by their settings, which a structure's own charge and spin may change
    kept: list[Given] = []
    labels: list[Labels] = []
    failures: list[Unread] = []
    for each in given:
        params = method.params_for(each.geometry, work.method.params)
        key = repr(sorted(params.items()))
        if key not in calculators:
            calculators[key] = method.calculator(params)
        calculator, atoms = calculators[key], each.geometry.atoms()
        # What ASE's calculators keep of the structure before (tblite its wave function) must not enter the next one.
        calculator.reset()
        atoms.calc = calculator
        try:
            labels.append(compute_labels(atoms, stress=work.stress and can(calculator, "stress")))
            kept.append(each)
        except Exception as error:  # whatever the program met: not converged, singular, an unknown element
            failures.append(Unread(each.id, reason(error)))
            del calculators[key]
    return Labelled(given_table(kept, labels) if kept else None, tuple(failures))
