"""One Ray task: the structures of a chunk, labelled as they are, written to the store before the task returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.store import open_store
from jobs.label.calculators import find_method
from jobs.label.labels import Labels, can, compute_labels, reason
from jobs.label.sources import Given
from jobs.label.staged import Staged, Unlabelled, encode, labelled_table, staged_key
from jobs.spec.frozen import Component


@dataclass(frozen=True)
class Work:
    """All that a chunk needs to know beside its structures."""

    store: str
    run: str
    digest: str
    method: Component
    periodic: bool  # some structure of the source repeats
    stress: bool  # every one does, and its lattice spans a volume


@dataclass(frozen=True)
class Report:
    """What a chunk gave."""

    number: int
    kept: int
    failed: int
    first_reason: str = ""


def label_chunk(work: Work, number: int, given: Sequence[Given]) -> Report:
    """Label the structures and stage them. Raises UserError where the method refuses its settings."""
    staged = labelled(work, given)
    open_store(work.store).write(staged_key(work.run, number), encode(staged))
    first = staged.failures[0].reason if staged.failures else ""
    return Report(number, len(given) - len(staged.failures), len(staged.failures), first)


def labelled(work: Work, given: Sequence[Given]) -> Staged:
    """Each structure with its labels, or why it has none; the result for one depends on no other."""
    method = find_method(work.method)
    calculators: dict[str, Any] = {}  # by their settings, which a structure's own charge and spin may change
    kept: list[Given] = []
    labels: list[Labels] = []
    failures: list[Unlabelled] = []
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
            failures.append(Unlabelled(each.id, reason(error)))
            del calculators[key]
    table = labelled_table(kept, labels, periodic=work.periodic) if kept else None
    return Staged(work.digest, table, failures)
