"""The one table of metrics: what is emitted, how it is labelled, and how a dashboard asks Prometheus for it.

Ray exports a metric `equi_x` as `ray_equi_x` (gauge), `ray_equi_x_total` (counter) or `ray_equi_x_bucket`, `_sum` and
`_count` (histogram), one series for each worker process; that is why every expression aggregates. In an expression
`$run` and `$endpoint` are variables of the dashboard, `$__rate_interval` is Grafana's.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

KindName = Literal["counter", "gauge", "histogram"]
GroupName = Literal["training", "sweeps", "endpoints"]

GROUPS: tuple[GroupName, ...] = ("training", "sweeps", "endpoints")


@dataclass(frozen=True)
class Metric:
    """One row of the table."""

    name: str  # as emitted; Prometheus sees `series`
    kind: KindName
    unit: str  # Grafana's id of the unit: short, s, percentunit, ...
    labels: tuple[str, ...]
    help: str
    group: GroupName
    title: str  # of its panel
    expression: str  # PromQL
    legend: str  # of one line of the panel: {{label}} is replaced by Grafana
    boundaries: tuple[float, ...] = ()  # upper ends of the buckets of a histogram

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which Prometheus knows this metric."""
        if self.kind == "counter":
            return (f"ray_{self.name}_total",)
        if self.kind == "histogram":
            return tuple(f"ray_{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (f"ray_{self.name}",)


def _rate(name: str, by: str, select: str) -> str:
    return f"sum by ({by}) (rate(ray_{name}_total{{{select}}}[$__rate_interval]))"


def _quantile(quantile: float, name: str, by: str, select: str) -> str:
    inner = f"sum by (le, {by}) (rate(ray_{name}_bucket{{{select}}}[$__rate_interval]))"
    return f"histogram_quantile({quantile}, {inner})"


def _newest(name: str, by: str, select: str) -> str:
    # A restarted worker leaves its last value behind for some minutes; of a run only rank 0 speaks.
    return f"max by ({by}) (ray_{name}{{{select}}})"


RUN = 'run_id=~"$run"'
ENDPOINT = 'endpoint=~"$endpoint"'
# Seconds: from a step of a toy model on one core to a stuck collective.
STEP_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
ANSWER_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCH_ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

_ROWS = (
    Metric(
        "equi_samples", "counter", "short", ("run_id",), "Training samples seen by all workers together.",
        "training", "Samples per second", _rate("equi_samples", "run_id", RUN), "{{run_id}}",
    ),
    Metric(
        "equi_step", "gauge", "short", ("run_id",), "Optimizer steps done.",
        "training", "Step", _newest("equi_step", "run_id", RUN), "{{run_id}}",
    ),
    Metric(
        "equi_training_metric", "gauge", "short", ("run_id", "metric"),
        "Newest value of a quantity of a run: loss, lr, grad_norm, valid/loss, valid/force_mae.",
        "training", "Loss and errors", _newest("equi_training_metric", "run_id, metric", RUN), "{{run_id}} {{metric}}",
    ),
    Metric(
        "equi_step_seconds", "histogram", "s", ("run_id",), "Wall-clock time of one optimizer step.",
        "training", "Time of a step, 95%", _quantile(0.95, "equi_step_seconds", "run_id", RUN), "{{run_id}}",
        STEP_SECONDS,
    ),
    Metric(
        "equi_throughput", "gauge", "short", ("run_id", "what"),
        "Samples, atoms or images that all workers together train on in a second, a running mean.",
        "training", "Samples, atoms or images a second", _newest("equi_throughput", "run_id, what", RUN),
        "{{run_id}} {{what}}",
    ),
    Metric(
        "equi_flops", "gauge", "flops", ("run_id",),
        "Matrix products, convolutions and attention that all workers together execute in a second.",
        "training", "FLOP/s of products", _newest("equi_flops", "run_id", RUN), "{{run_id}}",
    ),
    Metric(
        "equi_mfu", "gauge", "percentunit", ("run_id",),
        "FLOP/s of products in parts of the peak of the GPUs at the precision of the run; of GPUs in the table only.",
        "training", "Share of the GPUs' peak (MFU)", _newest("equi_mfu", "run_id", RUN), "{{run_id}}",
    ),
    Metric(
        "equi_data_wait", "gauge", "percentunit", ("run_id",),
        "Share of the time of steps since the last evaluation in which the leading worker waited for its batch.",
        "training", "Waiting for data", _newest("equi_data_wait", "run_id", RUN), "{{run_id}}",
    ),
    Metric(
        "equi_skipped_steps", "gauge", "short", ("run_id",),
        "Steps left out because their gradients were not finite or far too large.",
        "training", "Steps left out", _newest("equi_skipped_steps", "run_id", RUN), "{{run_id}}",
    ),
    Metric(
        "equi_worker_memory_bytes", "gauge", "bytes", ("run_id", "rank"),
        "Most memory that a worker has held: of its GPU, or resident where it has none; told at evaluations.",
        "training", "Peak memory by rank", _newest("equi_worker_memory_bytes", "run_id, rank", RUN),
        "{{run_id}} {{rank}}",
    ),
    Metric(
        "equi_restarts", "counter", "short", ("run_id",), "Times the workers of a run were started again.",
        "training", "Restarts in an hour", f"sum by (run_id) (increase(ray_equi_restarts_total{{{RUN}}}[1h]))",
        "{{run_id}}",
    ),
    Metric(
        "equi_trials", "counter", "short", ("run_id", "outcome"),
        "Trials of a sweep that ended: finished, stopped (by the scheduler) or failed.",
        "sweeps", "Trials ended", f"sum by (run_id, outcome) (ray_equi_trials_total{{{RUN}}})",
        "{{run_id}} {{outcome}}",
    ),
    Metric(
        "equi_trials_running", "gauge", "short", ("run_id",), "Trials of a sweep that train now.",
        "sweeps", "Trials running", _newest("equi_trials_running", "run_id", RUN), "{{run_id}}",
    ),
    Metric(
        "equi_sweep_best", "gauge", "short", ("run_id", "metric"), "Best value of the sweep's metric so far.",
        "sweeps", "Best so far", _newest("equi_sweep_best", "run_id, metric", RUN), "{{run_id}} {{metric}}",
    ),
    Metric(
        "equi_requests", "counter", "reqps", ("endpoint", "model", "status"), "Answered requests by HTTP status.",
        "endpoints", "Requests per second", _rate("equi_requests", "endpoint, status", ENDPOINT),
        "{{endpoint}} {{status}}",
    ),
    Metric(
        "equi_request_seconds", "histogram", "s", ("endpoint", "model"), "From the whole request to the whole answer.",
        "endpoints", "Time of an answer, 99%", _quantile(0.99, "equi_request_seconds", "endpoint", ENDPOINT),
        "{{endpoint}}", ANSWER_SECONDS,
    ),
    Metric(
        "equi_batch_items", "histogram", "short", ("endpoint", "model"),
        "Structures or images that shared one forward pass.",
        "endpoints", "Items in a batch, mean",
        f"sum by (endpoint) (rate(ray_equi_batch_items_sum{{{ENDPOINT}}}[$__rate_interval])) / "
        f"sum by (endpoint) (rate(ray_equi_batch_items_count{{{ENDPOINT}}}[$__rate_interval]))",
        "{{endpoint}}", BATCH_ITEMS,
    ),
    Metric(
        "equi_queued_items", "gauge", "short", ("endpoint", "model"), "Items that wait for a forward pass.",
        "endpoints", "Items waiting", f"sum by (endpoint) (ray_equi_queued_items{{{ENDPOINT}}})", "{{endpoint}}",
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ROWS})

_made: dict[str, Any] = {}
_making = threading.Lock()


class Meter:
    """Emits metrics of the table with some labels fixed: `Meter(run_id="r1").add("equi_samples", 32)`.

    Cheap to make; Ray's own objects are made once a process, at the first value, because a module that is imported
    must not import Ray. Outside a Ray session values go nowhere. A name, kind or label that is not in the table is our
    own fault: LookupError, TypeError or ValueError.
    """

    def __init__(self, **labels: str) -> None:
        self._labels = labels

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Count `amount` more. Zero is allowed and says nothing; Ray itself refuses it."""
        if amount < 0:
            raise ValueError(f"{name}: a counter cannot go back by {-amount}")
        tags = self._tags(name, "counter", labels)
        if amount > 0:
            _ray_metric(name).inc(amount, tags=tags)

    def set(self, name: str, value: float, **labels: str) -> None:
        """The value of a gauge is now `value`."""
        tags = self._tags(name, "gauge", labels)
        _ray_metric(name).set(value, tags=tags)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One more value of a histogram."""
        tags = self._tags(name, "histogram", labels)
        _ray_metric(name).observe(value, tags=tags)

    def _tags(self, name: str, kind: KindName, labels: Mapping[str, str]) -> dict[str, str]:
        metric = METRICS.get(name)
        if metric is None:
            raise LookupError(f"{name} is not in the table of metrics; it has {', '.join(METRICS)}")
        if metric.kind != kind:
            raise TypeError(f"{name} is a {metric.kind}, not a {kind}")
        given = {**self._labels, **labels}
        if set(labels) - set(metric.labels) or set(metric.labels) - set(given):
            raise ValueError(f"{name} has the labels {', '.join(metric.labels)}; given: {', '.join(given) or 'none'}")
        return {label: given[label] for label in metric.labels}


def _ray_metric(name: str) -> Any:
    """Ray's object for a row, made at its first use in this process."""
    found = _made.get(name)
    if found is None:
        with _making:  # requests are answered in several threads
            found = _made.get(name) or _made.setdefault(name, _make(METRICS[name]))
    return found


def _make(metric: Metric) -> Any:
    from ray.util import metrics as ray_metrics

    if metric.kind == "counter":
        return ray_metrics.Counter(metric.name, metric.help, tag_keys=metric.labels)
    if metric.kind == "gauge":
        return ray_metrics.Gauge(metric.name, metric.help, tag_keys=metric.labels)
    return ray_metrics.Histogram(metric.name, metric.help, list(metric.boundaries), tag_keys=metric.labels)
