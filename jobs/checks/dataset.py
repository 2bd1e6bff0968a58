"""Checks of a dataset spec: the source, its settings, its files."""

from cluster.errors import NotFoundError
from cluster.spec.complaints import Complaint, Surroundings
from jobs.checks.settings import setting_complaints, unknown
from jobs.ingest.readers import READERS
from jobs.ingest.reading import existing
from jobs.spec.dataset import DatasetSpec


def check(spec: DatasetSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything that is wrong with `spec` here, all at once. Files are looked for, not read."""
    name, params = spec.source.name, spec.source.params
    if name not in READERS:
        return [unknown("source", name, READERS, ("source", "name"))]
    reader = READERS[name]
    found = setting_complaints(reader.settings, params, ("source", "params"), f"source {name!r}")
    for setting in reader.files:
        if isinstance(params.get(setting), str):
            try:
                existing(surroundings.folder, params[setting])
            except NotFoundError as error:
                found.append(Complaint(("source", "params", setting), error.message))
    return found
