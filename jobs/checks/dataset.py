"""Checks of a dataset spec: the source, its settings, its files, units and elements. Nothing is read."""

from typing import Any

from ase.data import atomic_numbers
from pydantic import ValidationError

from cluster.errors import UserError
from cluster.spec.complaints import Complaint, Surroundings
from jobs.checks.settings import nearest, setting_complaints, unknown
from jobs.ingest.catalogue import SOURCES
from jobs.ingest.finding import found_files, found_folder
from jobs.ingest.source import Source
from jobs.spec.dataset import DatasetSpec, ReferenceFile, names_files
from jobs.spec.units import Units


def check(spec: DatasetSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything that is wrong with `spec` here, all at once. Files are looked for, not read."""
    name, params = spec.source.name, spec.source.params
    found = _references(spec, surroundings)
    if name not in SOURCES:
        return [unknown("source", name, SOURCES, ("source", "name")), *found]
    source = SOURCES[name]
    found += setting_complaints(source.settings, params, ("source", "params"), f"source {name!r}")
    for setting, value in params.items():
        if names_files(setting) and setting in source.settings.model_fields:
            found += _files(value, ("source", "params", setting), surroundings)
    try:
        settings = source.settings(**params)
    except ValidationError:
        return found
    return found + _kind(spec, source, settings)


def _files(value: Any, path: tuple[str, ...], surroundings: Surroundings) -> list[Complaint]:
    """The files of one setting are there."""
    found = []
    several = isinstance(value, list | tuple)
    for place, name in enumerate(value if several else [value]):
        if isinstance(name, str):
            try:
                if path[-1].endswith("folder"):
                    found_folder(surroundings.folder, name)
                else:
                    found_files(surroundings.folder, name)
            except UserError as error:
                found.append(Complaint((*path, place) if several else path, error.message, error.allowed))
    return found


def _references(spec: DatasetSpec, surroundings: Surroundings) -> list[Complaint]:
    given = spec.reference_energies
    if isinstance(given, ReferenceFile):
        return _files(given.file, ("reference_energies", "file"), surroundings)
    known = [symbol for symbol, number in atomic_numbers.items() if number]
    return [
        Complaint(("reference_energies", symbol), f"there is no element {symbol!r}{nearest(symbol, known)}")
        for symbol in given or {}
        if symbol not in known
    ]


def _kind(spec: DatasetSpec, source: Source, settings: Any) -> list[Complaint]:
    """What is only for structures is said of structures only, and groups only where there are any."""
    found, kind = [], source.kind(settings)
    if kind != "structures":
        what = f"source {spec.source.name!r} gives {kind}"
        if spec.units != Units():
            found.append(Complaint(("units",), f"{what}, which have no units", "only with structures"))
        if spec.reference_energies is not None:
            found.append(Complaint(("reference_energies",), f"{what}, which have no atoms", "only with structures"))
        if spec.split.by == "composition":
            found.append(Complaint(("split", "by"), f"{what}, which have no composition", "random, group"))
    if spec.split.by == "group" and not source.grouped(settings):
        ways = [name for name in source.settings.model_fields if name.startswith("group_")]
        hint = f"say what a group is in source.params: {' or '.join(ways)}" if ways else None
        message = f"source {spec.source.name!r} gives each row a group of its own"
        found.append(Complaint(("split", "by"), message, "random" if not ways else None, hint))
    return found
