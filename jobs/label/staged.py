"""A finished chunk of given structures: an Arrow IPC file on the store, in the columns of the dataset to come.

A chunk on the store is finished work and is never computed again. Its bytes are a function of its structures and the
method alone. Shapes: N atoms.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.ingest.columns import lists, tensors
from jobs.label.labels import Labels
from jobs.label.sources import Given

_META = b"equimodels.labels"


@dataclass(frozen=True)
class Unlabelled:
    """A structure that the method could not compute."""

    id: str
    reason: str


@dataclass(frozen=True)
class Staged:
    """One finished chunk."""

    digest: str  # of the spec that asked for it
    table: pa.Table | None  # None where no structure could be computed
    failures: Sequence[Unlabelled]


def staged_folder(run: str) -> str:
    """Where on the store the chunks of a run are."""
    return f"runs/{run}/chunks"


def staged_key(run: str, number: int) -> str:
    """The chunk with this number; keys sort by it."""
    return f"{staged_folder(run)}/s{number:07d}.arrow"


def labelled_table(given: Sequence[Given], labels: Sequence[Labels], *, periodic: bool) -> pa.Table:
    """The structures with their labels. periodic: with columns cell and pbc, zero where a structure does not repeat."""
    geometries = [each.geometry for each in given]
    sizes = [len(geometry.numbers) for geometry in geometries]
    columns: dict[str, Any] = {
        "id": pa.array([each.id for each in given], pa.string()),
        "numbers": lists(np.concatenate([g.numbers for g in geometries]).astype(np.uint8), sizes),
        "positions": _triples([g.positions for g in geometries], sizes),
        "energy": pa.array([each.energy for each in labels], pa.float64()),
    }
    if labels[0].forces is not None:
        columns["forces"] = _triples([each.forces for each in labels], sizes)
    if periodic:
        columns["cell"] = _tensors([g.cell for g in geometries], (3, 3))
        columns["pbc"] = _tensors([g.pbc for g in geometries], (3,), np.uint8)
    if labels[0].stress is not None:
        columns["stress"] = _tensors([each.stress for each in labels], (3, 3))
    if geometries[0].charge is not None:
        columns["charge"] = pa.array([g.charge for g in geometries], pa.float64())
    if geometries[0].spin is not None:
        columns["spin"] = pa.array([g.spin for g in geometries], pa.int64())
    for name in ("group", "split"):
        columns[name] = pa.array([getattr(each, name) for each in given], pa.string())
    return pa.table(columns)


def encode(staged: Staged) -> bytes:
    """The chunk as an Arrow IPC file."""
    meta = {"digest": staged.digest, "failures": [asdict(failure) for failure in staged.failures]}
    table = pa.table({}) if staged.table is None else staged.table
    table = table.replace_schema_metadata({_META: json.dumps(meta, sort_keys=True).encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def decode(data: bytes) -> Staged:
    """The chunk again, bit for bit. Raises pyarrow.ArrowInvalid for anything that is not one."""
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        table = reader.read_all()
    if _META not in (table.schema.metadata or {}):
        raise pa.ArrowInvalid("an Arrow file, but not a chunk of a label run")
    meta = json.loads(table.schema.metadata[_META])
    failures = [Unlabelled(**failure) for failure in meta["failures"]]
    return Staged(meta["digest"], table.replace_schema_metadata(None) if table.num_columns else None, failures)


def _triples(parts: Sequence[NDArray[Any] | None], sizes: Sequence[int]) -> pa.Array:
    flat = np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1) for part in parts])
    return lists(flat, np.multiply(sizes, 3))


def _tensors(parts: Sequence[NDArray[Any] | None], shape: tuple[int, ...], dtype: Any = np.float64) -> pa.Array:
    return tensors(np.stack([np.zeros(shape) if part is None else part for part in parts]).astype(dtype))
