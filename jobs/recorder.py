"""Measurements of a run on the store: rows of Parquet, events, and one small JSON for where the workers are now.

Training does not wait for the store: what is written goes through a thread of its own, and a store that is down is
tried again. Only at checkpoints and evaluations it waits, for seconds at most, so that a worker that is killed later
has left its measurements up to the step from which the next one goes on.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from cluster.errors import NotFoundError
from cluster.store import Store
from jobs.exporters.exporter import About
from jobs.exporters.feed import Feed
from jobs.recording import events, history
from jobs.recording.behind import Behind

PROGRESS_EVERY_S = 0.5
FLUSH_EVERY_S = 300.0
MOST_ROWS = 200_000  # of a run; a longer one is measured at every second step, or third
WARM_STEPS = 3  # they compile, allocate and are watched by the counter of operations
MEAN_OVER = 0.1  # the share of the newest value in a running mean
PATIENCE_S = 5.0  # of training, for a store that is well
LAST_WORDS_S = 60.0
POSITION = ("step", "seconds_left")  # what a row says otherwise, or not at all


@dataclass(frozen=True)
class Plan:
    """What is known of the recording before it begins.

    metric: which one picks the best weights. measured: names that evaluations will give, so that every file has their
    columns. evaluate_every, save_every: steps. peak: FLOP/s of all GPUs of the run together, None where that would mean
    little. loggers: exporters. settings: the spec as JSON, for exporters.
    """

    metric: str | None = None
    measured: tuple[str, ...] = ()
    evaluate_every: int = 0
    save_every: int = 0
    peak: float | None = None
    loggers: tuple[str, ...] = ()
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


class StoreRecorder:
    """Writes `runs/<id>/metrics/`, `runs/<id>/events/` and `runs/<id>/live.json`; used by the leading rank alone.

    attempt: of the run. The recorder counts starts of its workers on from what it finds. `emit` also receives what is
    measured, now and then, for the metrics that Prometheus scrapes. Nothing is read or written before the first call.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        attempt: int,
        total: int,
        emit: Callable[[Mapping[str, float]], None],
        plan: Plan | None = None,
    ) -> None:
        self._store, self._run, self._attempt, self._total, self._emit = store, run_id, attempt, total, emit
        self._plan = plan or Plan()
        self._keep_every = max(1, math.ceil(total / MOST_ROWS))
        self._rows: list[dict[str, Any]] = []
        self._files = self._told = 0
        self._spoke = self._flushed = time.monotonic()
        self._spoke -= PROGRESS_EVERY_S
        self._news: dict[str, Any] = {}
        self._rates: dict[str, float] = {}
        self._steps = 0
        self._behind = Behind()
        self._feed: Feed | None = None
        self._begun = False

    def progressed(self, step: int, values: Mapping[str, float]) -> None:
        """A row of the step. Where the run is now is told twice a second, so that a fast step waits for nothing."""
        self._begin()
        now = {**values, **self._use_of_peak(values)}
        self._calm(now)
        saves, evaluates = _due(step, self._plan.save_every), _due(step, self._plan.evaluate_every)
        if step % self._keep_every == 0 or step == self._total or saves or evaluates:
            row = {name: value for name, value in now.items() if name not in POSITION}
            self._rows.append(history.row_of(step, self._attempt, datetime.now(UTC), row))
        if time.monotonic() - self._spoke >= PROGRESS_EVERY_S or step >= self._total:
            self._spoke = time.monotonic()
            self._emit(now | self._rates)
            self._say({"now": now | self._rates, "completed": step})
        if saves and not evaluates and step < self._total:  # an evaluation comes before the checkpoint, and flushes
            self._flush(wait=True)
        elif time.monotonic() - self._flushed >= FLUSH_EVERY_S:
            self._flush()

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """An evaluation: its values join the row of the step, and everything so far goes to the store."""
        self._begin()
        row = history.row_of(step, self._attempt, datetime.now(UTC), values)
        if self._rows and self._rows[-1]["step"] == step:
            self._rows[-1] |= row
        else:
            self._rows.append(row)
        self._emit(values)
        self._say({"measured": dict(values), "completed": step})
        self._flush(wait=True)

    def happened(self, step: int, what: str, details: Mapping[str, Any]) -> None:
        """One event, in a file of its own."""
        self._begin()
        self._told += 1
        mark = events.event(step, what, details, attempt=self._attempt)
        self._behind.put(f"event-{self._told}", partial(events.write_event, self._store, self._run, mark), keep=True)
        self._say({"event": {"step": step, "what": what}, "completed": step})
        if what not in ("skipped", "best"):  # seldom, and perhaps the last that is heard of this worker
            self._flush(wait=True)

    def close(self) -> None:
        """Write what is left, and let exporters finish. Nothing is raised: the training has ended, well or not."""
        if not self._begun:
            return
        self._flush()
        if self._feed is not None:
            self._feed.end()
        if not self._behind.close(LAST_WORDS_S):
            why = self._behind.trouble or "the store is slow"
            warnings.warn(f"the last measurements of run {self._run} were not written: {why}", stacklevel=2)

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        before = max(
            _live_attempt(self._store, self._run),
            history.newest_attempt(self._store, self._run),
            events.newest_attempt(self._store, self._run),
        )
        self._attempt = max(self._attempt, before + 1)
        metric = self._plan.metric
        self._news = {"stage": "train", "unit": "steps", "total": self._total, "attempt": self._attempt}
        self._news |= {"restarts": before} | ({"metric": metric} if metric else {})
        # Arrow's first table imports pandas, where that is installed: not while a checkpoint waits for it.
        self._behind.put("first table", lambda: history.as_parquet(history.table_of([])))
        if self._plan.loggers:
            about = About(self._run, self._plan.name, self._attempt, self._store, self._plan.settings)
            self._feed = Feed(self._plan.loggers, about, self._logger_failed)

    def _flush(self, *, wait: bool = False) -> None:
        """Hand the rows so far to the writing thread, as one file."""
        self._flushed = time.monotonic()
        if self._rows:
            rows, self._rows = self._rows, []
            key = history.metrics_key(self._run, self._attempt, self._files)
            self._files += 1
            self._behind.put(key, partial(self._write, key, rows), keep=True)
            if self._feed is not None:
                self._feed.steps(rows)
        if wait:
            self._behind.wait(PATIENCE_S)

    def _write(self, key: str, rows: list[dict[str, Any]]) -> None:
        self._store.write(key, history.as_parquet(history.table_of(rows, self._plan.measured)))

    def _use_of_peak(self, values: Mapping[str, float]) -> dict[str, float]:
        rate = values.get("flops_per_second")
        return {"mfu": rate / self._plan.peak} if rate and self._plan.peak else {}

    def _calm(self, now: Mapping[str, float]) -> None:
        """Rates of single steps jump; people are shown a running mean of them, without the first steps."""
        self._steps += 1
        if self._steps <= WARM_STEPS:
            return
        for name, value in now.items():
            if name.endswith("_per_second") or name == "mfu":
                before = self._rates.get(name, value)
                self._rates[name] = before + MEAN_OVER * (value - before)

    def _logger_failed(self, name: str, why: str) -> None:
        """Called by the thread that feeds exporters."""
        text = f"logger {name} is switched off: {why}"
        warnings.warn(text, stacklevel=2)
        mark = events.event(int(self._news.get("completed", 0)), "logger failed", {"why": text}, attempt=self._attempt)
        self._behind.put(f"logger-{name}", partial(events.write_event, self._store, self._run, mark), keep=True)

    def _say(self, news: dict[str, Any]) -> None:
        self._news |= news
        body = json.dumps(_plain({"at": datetime.now(UTC).isoformat(), **self._news}), allow_nan=False).encode()
        self._behind.put("live", partial(self._store.write, f"runs/{self._run}/live.json", body))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _live_attempt(store: Store, run: str) -> int:
    try:
        found = json.loads(store.read(f"runs/{run}/live.json")).get("attempt", 0)
    except (NotFoundError, ValueError):
        return 0
    return found if isinstance(found, int) else 0


def _plain(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
