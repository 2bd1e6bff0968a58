"""The measurements of a run over its steps: Parquet files with a row for each step, `runs/<id>/metrics/`.

Columns: step, attempt, time, loss, and one for every other quantity: `lr`, `gradient_norm`, `samples_per_second`, those
of the objective, and `valid/...`, which have a value where the weights were evaluated. A file holds many steps, is
written once and never again. After a restart the steps since the checkpoint are there twice: the higher attempt counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.store import Store

FIRST = (("step", pa.int64()), ("attempt", pa.int32()), ("time", pa.timestamp("ms", tz="UTC")), ("loss", pa.float64()))
_READERS = 8


def table_of(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> pa.Table:
    """Rows as a table; what a row does not have is null. columns: that are there even where no row has them."""
    known = {name for name, _ in FIRST}
    others = sorted({name for row in rows for name in row} | set(columns))
    schema = pa.schema([*FIRST, *((name, pa.float64()) for name in others if name not in known)])
    return pa.table(
        {one.name: pa.array([row.get(one.name) for row in rows], one.type) for one in schema}, schema=schema
    )


def as_parquet(table: pa.Table) -> bytes:
    """The file."""
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def metrics_key(run: str, attempt: int, number: int) -> str:
    """Where the numbered file of an attempt is; keys sort as they were written."""
    return f"runs/{run}/metrics/{attempt:03d}-{number:05d}.parquet"


def newest_attempt(store: Store, run: str) -> int:
    """The highest attempt that wrote measurements; 0 before there are any."""
    names = [key.rpartition("/")[2].partition("-")[0] for key in store.list(f"runs/{run}/metrics")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def read_history(store: Store, run: str) -> pa.Table:
    """A row for each step that was measured, ascending; where steps were taken twice, what was measured last."""
    keys = [key for key in store.list(f"runs/{run}/metrics") if key.endswith(".parquet")]
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda key: pq.read_table(BytesIO(store.read(key))), keys))
    tables = [table for table in tables if "loss" in table.column_names]
    if not tables:
        return table_of([])
    return newest(pa.concat_tables(tables, promote_options="default"))


def newest(table: pa.Table) -> pa.Table:
    """One row a step: of each column the value of the highest attempt that has one."""
    ordered = table.sort_by([("step", "ascending"), ("attempt", "ascending")])
    others = [name for name in ordered.column_names if name != "step"]
    grouped = ordered.group_by("step", use_threads=False).aggregate([(name, "last") for name in others])
    return grouped.rename_columns([name.removesuffix("_last") for name in grouped.column_names]).select(
        ordered.column_names
    )


def row_of(step: int, attempt: int, at: datetime, values: Mapping[str, float]) -> dict[str, Any]:
    """A row. `train/loss` is the loss: without a prefix a quantity is that of the training batch."""
    plain = {name.removeprefix("train/"): float(value) for name, value in values.items()}
    return {**plain, "step": step, "attempt": attempt, "time": at}
