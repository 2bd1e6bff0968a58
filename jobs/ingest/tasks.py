"""The two tasks of an ingest: a piece is read and staged; rows of staged pieces are written as a shard."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.conform import conform_piece
from cluster.dataset.schema import SPLITS, Kind
from cluster.dataset.shards import WrittenShard, write_shard
from cluster.store import Store
from jobs.ingest.catalogue import find_source
from jobs.ingest.checking import sound
from jobs.ingest.columns import tensors
from jobs.ingest.content import formulas, row_bytes, row_digests
from jobs.ingest.conversion import Factors, convert
from jobs.ingest.reference import subtract
from jobs.ingest.source import Piece, Unread
from jobs.ingest.staging import LISTED, Index, stage, staged_rows
from jobs.spec.frozen import Component

TOLD = 20  # rows of a piece that are named where one that cannot be read ends the run
_FORMAT = 1  # of what is staged; another one's pieces are read again


@dataclass(frozen=True)
class Work:
    """What is done with every piece."""

    run: str
    source: Component
    kind: Kind
    factors: Factors | None = None  # of structures
    references: dict[int, float] = field(default_factory=dict)  # eV by atomic number
    fail: bool = True  # a row that cannot be read ends the run
    formulas: bool = False
    digests: bool = True

    def digest(self, piece: Piece) -> str:
        """Of all that decides what comes out of the piece, its files as far as their size and time tell."""
        said = [_FORMAT, self.source.model_dump(mode="json"), self.kind, self.factors and asdict(self.factors)]
        said += [self.references, self.fail, self.formulas, self.digests, asdict(piece)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Read:
    """The report of a piece: its index, or the rows that stop the run."""

    number: int
    index: Index | None
    problems: tuple[Unread, ...] = ()
    problem_count: int = 0


def read_piece(store: Store, work: Work, number: int, piece: Piece) -> Read:
    """Read the piece, make it a dataset's rows, and stage it. Raises UserError for what is wrong with all of it."""
    source, settings = find_source(work.source)
    part = sound(source.read(settings, piece), work.kind)
    if part.unread and work.fail:
        return Read(number, None, tuple(part.unread[:TOLD]), len(part.unread))
    table = part.table.combine_chunks()
    if len(table) and work.factors is not None:
        table = convert(table, work.factors)
    if len(table) and work.references:
        table = subtract(table, work.references)
    given, unread = table["split"], part.unread
    if len(table):
        table = _conformed(table, work.kind, SPLITS[0]).drop_columns(["split"])
    index = Index(
        digest=work.digest(piece),
        rows=_narrow(table, given, work),
        schema=table.schema if len(table) else None,
        unread=tuple(unread[:LISTED]),
        unread_count=len(unread),
    )
    stage(store, work.run, number, table, index)
    return Read(number, index)


def _narrow(table: pa.Table, given: pa.ChunkedArray, work: Work) -> pa.Table:
    """What decides splits and shards."""
    columns: dict[str, Any] = {"id": table["id"], "group": table["group"], "split": given}
    if len(table):
        columns["bytes"] = row_bytes(table)
        columns["digest"] = row_digests(table, work.kind) if work.digests else None
        columns["formula"] = formulas(table).cast(pa.string()) if work.formulas else None
        labelled = "label" in table.column_names and pa.types.is_integer(table.schema.field("label").type)
        columns["label"] = table["label"] if labelled else None
    return pa.table({name: values for name, values in columns.items() if values is not None})


def write_rows(
    store: Store,
    run: str,
    kind: Kind,
    name: str,
    split: str,
    picked: Sequence[tuple[int, NDArray[np.int64]]],
    filled: Sequence[str],
) -> WrittenShard:
    """Write the picked rows of staged pieces as one shard of dataset `name`.

    filled: columns that a piece may lack, which then hold zeros.
    """
    tables = []
    for number, rows in picked:
        tables.append(_conformed(_with(staged_rows(store, run, number, rows), filled), kind, split))
    return write_shard(store, name, pa.concat_tables(tables), kind, split=split)


def _with(table: pa.Table, filled: Sequence[str]) -> pa.Table:
    shapes = {"cell": (3, 3), "pbc": (3,)}
    for name in filled:
        if name not in table.column_names:
            dtype = np.uint8 if name == "pbc" else np.float64
            table = table.append_column(name, tensors(np.zeros((len(table), *shapes[name]), dtype=dtype)))
    return table


def _conformed(table: pa.Table, kind: Kind, split: str) -> pa.Table:
    if "split" in table.column_names:
        table = table.drop_columns(["split"])
    return conform_piece(table.append_column("split", pa.repeat(pa.scalar(split), len(table))), kind)
