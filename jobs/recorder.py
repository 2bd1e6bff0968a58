"""Measurements of a run on the store: Parquet for what was measured, one small JSON for where the workers are now."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.store import Store

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("name", pa.string()),
        ("value", pa.float64()),
        ("time", pa.timestamp("ms", tz="UTC")),
    ]
)
PROGRESS_EVERY_S = 0.5


class StoreRecorder:
    """Writes `runs/<id>/metrics/<attempt>-<step>.parquet` and `runs/<id>/live.json`.

    `emit` also receives every measurement, for the metrics that Prometheus scrapes.
    """

    def __init__(
        self, store: Store, run_id: str, attempt: int, total: int, emit: Callable[[Mapping[str, float]], None]
    ) -> None:
        self._store, self._run, self._attempt, self._total, self._emit = store, run_id, attempt, total, emit
        self._spoke = 0.0
        self._news: dict[str, Any] = {}

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """One Parquet file for one evaluation: complete or not there, and never rewritten."""
        now = datetime.now(UTC)
        rows = [{"step": step, "name": name, "value": value, "time": now} for name, value in values.items()]
        sink = BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink)
        self._store.write(f"runs/{self._run}/metrics/{self._attempt:03d}-{step:08d}.parquet", sink.getvalue())
        self._say({"measured": dict(values), "completed": step, "total": self._total})

    def progressed(self, step: int, values: Mapping[str, float]) -> None:
        """At most two writes a second, so that a fast step does not wait for the store."""
        if time.monotonic() - self._spoke < PROGRESS_EVERY_S and step < self._total:
            return
        self._spoke = time.monotonic()
        self._emit(values)
        self._say({"now": dict(values), "completed": step, "total": self._total})

    def _say(self, news: dict[str, Any]) -> None:
        self._news |= news
        body = {"stage": "train", "unit": "steps", "at": datetime.now(UTC).isoformat(), **self._news}
        self._store.write(f"runs/{self._run}/live.json", json.dumps(body).encode())
