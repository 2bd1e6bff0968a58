"""Checks of a label spec: the molecule or file, the method and its settings."""

from cluster.errors import UserError
from cluster.spec.complaints import Complaint, Surroundings
from jobs.checks.settings import setting_complaints, unknown
from jobs.label.calculators import METHODS, find_method
from jobs.label.geometries import first_geometries, molecule_names
from jobs.spec.label import LabelSpec


def check(spec: LabelSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything that is wrong with `spec` here, all at once."""
    return structures(spec, surroundings) + method(spec)


def structures(spec: LabelSpec, surroundings: Surroundings) -> list[Complaint]:
    """The molecule is known, or the file is there and can be read."""
    source = spec.structures
    if source.molecule is not None:
        names = molecule_names()
        if source.molecule in names:
            return []
        return [unknown("molecule", source.molecule, names, ("structures", "molecule"), shown=18)]
    try:
        geometries = first_geometries(source, surroundings.folder)
    except UserError as error:
        return [Complaint(("structures", "file"), error.message, error.allowed, error.hint)]
    return [] if geometries else [Complaint(("structures", "file"), f"{source.file} holds no structure")]


def method(spec: LabelSpec) -> list[Complaint]:
    """The method is known and its settings fit. An ASE calculator class is imported, but not made."""
    name = spec.method.name
    if ":" not in name and name not in METHODS:
        complaint = unknown("method", name, METHODS, ("method", "name"))
        allowed = f"{complaint.allowed}, or an ASE calculator as pkg.module:Class"
        return [Complaint(complaint.path, complaint.message, allowed)]
    try:
        found = find_method(spec.method)
    except UserError as error:
        return [Complaint(("method", "name"), error.message, error.allowed, error.hint)]
    if found.settings is None:
        return []
    return setting_complaints(found.settings, spec.method.params, ("method", "params"), f"method {name!r}")
