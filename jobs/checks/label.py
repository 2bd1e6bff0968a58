"""Checks of a label spec: the structures, the method and its settings, and whether both go together."""

from cluster.dataset.catalog import load_manifest
from cluster.dataset.schema import require_kind
from cluster.errors import UserError
from cluster.spec.complaints import Complaint, Surroundings
from jobs.checks.settings import setting_complaints, unknown
from jobs.label.calculators import METHODS, find_method
from jobs.label.molecules import molecule_names
from jobs.label.sources import read_geometries
from jobs.spec.label import LabelSpec


def check(spec: LabelSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything that is wrong with `spec` here, all at once."""
    return structures(spec, surroundings) + method(spec)


def structures(spec: LabelSpec, surroundings: Surroundings) -> list[Complaint]:
    """The molecule is known, the file can be read, or the dataset holds structures of that split."""
    source = spec.structures
    if source.molecule is not None:
        names = molecule_names()
        if source.molecule in names:
            return []
        return [unknown("molecule", source.molecule, names, ("structures", "molecule"), shown=18)]
    if source.dataset is not None:
        return dataset(spec, source.dataset, surroundings)
    try:
        geometries = read_geometries(surroundings.folder / str(source.file))
    except UserError as error:
        return [Complaint(("structures", "file"), error.message, error.allowed, error.hint)]
    return [] if geometries else [Complaint(("structures", "file"), f"{source.file} holds no structure")]


def dataset(spec: LabelSpec, reference: str, surroundings: Surroundings) -> list[Complaint]:
    """The dataset is there, and its own charges do not contradict those of the method."""
    if surroundings.store is None:
        return []
    try:
        manifest = load_manifest(surroundings.store, reference)
        require_kind(manifest, "structures", columns=())
    except UserError as error:
        return [Complaint(("structures", "dataset"), error.message, error.allowed, error.hint)]
    found = []
    if spec.structures.split is not None and not manifest.splits.get(spec.structures.split):
        there = ", ".join(name for name, rows in manifest.splits.items() if rows)
        message = f"{manifest.ref} has no {spec.structures.split} rows"
        found.append(Complaint(("structures", "split"), message, allowed=there))
    told = METHODS[spec.method.name].told if spec.method.name in METHODS else {}
    columns = {column.name for column in manifest.columns}
    for column, setting in told.items():
        if column in columns and setting in spec.method.params:
            message = f"each structure of {manifest.ref} says its own {column}"
            found.append(Complaint(("method", "params", setting), message, hint="leave the setting out"))
    return found


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
