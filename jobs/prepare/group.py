"""What a worker does with one row group: it is read, goes through every step, and is staged on the store.

A staged row group is finished work and is not done again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.dataset.conform import conform_piece
from cluster.dataset.dataset import open_dataset
from cluster.dataset.schema import SPLITS
from cluster.dataset.statistics import measure
from cluster.store import open_store
from jobs.ingest.content import row_bytes
from jobs.ingest.staging import Index, stage
from jobs.prepare.catalogue import STEPS, settings_of
from jobs.prepare.figures import to_json
from jobs.prepare.step import Rows, Surroundings
from jobs.spec.frozen import Component


@dataclass(frozen=True)
class Work:
    """All that a worker needs to know. Aliases and latest versions are pinned: every row group sees the same."""

    store: str
    run: str
    dataset: str  # name@version
    digest: str  # of the content of the dataset and of the steps: the work of others is not this run's
    steps: tuple[Component, ...]
    publishes: bool  # rows are staged, not only what they sum up to
    device: str = "cpu"

    def digest_of(self, number: int) -> str:
        """The digest of one row group's work."""
        return f"{self.digest}-{number}"


@dataclass(frozen=True)
class Done:
    """The report of a row group."""

    number: int
    rows: int  # that were read
    dropped: int


class Preparation:
    """The steps, ready for any row group of the dataset."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._store = open_store(work.store)
        self._dataset = open_dataset(work.dataset, store=self._store)
        surroundings = Surroundings(self._store, work.device)
        self._steps = [(step.name, STEPS[step.name].make(settings_of(step), surroundings)) for step in work.steps]

    def prepare(self, number: int) -> Done:
        """Read, change and stage one row group. Raises what a step raises for rows that it cannot do."""
        kind = self._dataset.manifest.kind
        table = self._dataset.read_group(number)
        read = table.num_rows
        dropped: dict[str, int] = {}
        for place, (name, apply) in enumerate(self._steps):
            if table.num_rows:
                outcome = apply(Rows(table, kind))
                table = outcome.table
                dropped |= {f"{place}.{name}.{reason}": count for reason, count in outcome.dropped.items() if count}
        if table.num_rows:
            table = conform_piece(table.combine_chunks(), kind)
        self._stage(number, table, {"read": read, "dropped": dropped, "figures": self._figures(table)})
        return Done(number, read, read - table.num_rows)

    def _figures(self, table: pa.Table) -> list[Any]:
        """Of each split; only for who asks for nothing else, since shards are measured anyway."""
        if self._work.publishes:
            return []
        there = [(split, table.filter(pc.equal(table["split"], split))) for split in SPLITS]
        kind = self._dataset.manifest.kind
        return [[split, to_json(measure(rows, kind))] for split, rows in there if rows.num_rows]

    def _stage(self, number: int, table: pa.Table, about: dict[str, Any]) -> None:
        names = table.select(["id", "group", "split"])
        rows = table.drop_columns(["split"]) if self._work.publishes else table.slice(0, 0)
        narrow = names.append_column("bytes", pa.array(row_bytes(rows))) if rows.num_rows else names.slice(0, 0)
        index = Index(
            digest=self._work.digest_of(number),
            rows=narrow,
            schema=rows.schema if rows.num_rows else None,
            about=about,
        )
        stage(self._store, self._work.run, number, rows, index)


def prepare_in_turn(work: Work, numbers: Sequence[int]) -> list[Done]:
    """All of them in this process."""
    preparation = Preparation(work)
    return [preparation.prepare(number) for number in numbers]
