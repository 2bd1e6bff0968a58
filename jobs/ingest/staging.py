"""Finished pieces on the store: a run that starts again does not read them a second time.

runs/<id>/parts/p00012.rows.arrow    the rows in the types of their kind, with a split that is still open
                p00012.index.arrow   what decides splits and shards, a few bytes a row; written last
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.errors import NotFoundError
from cluster.store import Store
from jobs.ingest.source import Unread

LISTED = 1000  # of the rows of a piece that could not be read; all are counted
_META = b"equimodels.part"


@dataclass(frozen=True)
class Index:
    """What is known of a staged piece without its rows.

    rows: columns id, group, split (given, or empty), bytes, and as asked for digest, formula, label. schema: of the
    staged rows, None where there are none.
    """

    digest: str  # of the piece and of what was done with it: another one's work is not this run's
    rows: pa.Table
    schema: pa.Schema | None
    unread: tuple[Unread, ...] = ()
    unread_count: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)  # JSON; what else a kind of run tells of its pieces


def parts_prefix(run: str) -> str:
    """The folder of the staged pieces of a run."""
    return f"runs/{run}/parts"


def stage(store: Store, run: str, number: int, table: pa.Table, index: Index) -> None:
    """Put a piece on the store; with its index it is finished."""
    if len(table):
        store.write(_key(run, number, "rows"), _encode(table))
    meta = {
        "digest": index.digest,
        "schema": None if index.schema is None else base64.b64encode(index.schema.serialize()).decode(),
        "unread": [asdict(each) for each in index.unread[:LISTED]],
        "unread_count": index.unread_count,
        "about": dict(index.about),
    }
    told = index.rows.replace_schema_metadata({_META: json.dumps(meta).encode()})
    store.write(_key(run, number, "index"), _encode(told))


def staged(store: Store, run: str, digests: Sequence[str]) -> dict[int, Index]:
    """The indexes of the pieces that are finished, by number; not of those that other files or settings have made.

    digests: of every piece, in their order.
    """
    there = set(store.list(parts_prefix(run)))  # one listing: a new run must not ask for a thousand pieces in turn
    found = {}
    for number, digest in enumerate(digests):
        key = _key(run, number, "index")
        if key in there and (index := _read_index(store, key)) is not None and index.digest == digest:
            found[number] = index
    return found


def _read_index(store: Store, key: str) -> Index | None:
    try:
        table = _decode(store.read(key))
        meta: dict[str, Any] = json.loads(table.schema.metadata[_META])
    except (NotFoundError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None  # damaged, or of an older format: it is read again
    schema = meta["schema"]
    return Index(
        digest=meta["digest"],
        rows=table.replace_schema_metadata(None),
        schema=None if schema is None else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema))),
        unread=tuple(Unread(**each) for each in meta["unread"]),
        unread_count=meta["unread_count"],
        about=meta.get("about", {}),
    )


def staged_rows(store: Store, run: str, number: int, rows: NDArray[np.int64]) -> pa.Table:
    """Some rows of a staged piece, in this order. In a folder, nothing else of it is read."""
    key = _key(run, number, "rows")
    path = store.local_path(key)
    if path is not None and path.is_file():
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    else:
        table = _decode(store.read(key))
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return table.slice(int(rows[0]), len(rows))
    return table.take(pa.array(rows))


def _key(run: str, number: int, what: str) -> str:
    return f"{parts_prefix(run)}/p{number:05d}.{what}.arrow"


def _encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _decode(data: bytes) -> pa.Table:
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        return reader.read_all()
