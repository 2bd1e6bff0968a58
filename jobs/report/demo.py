"""The report of `equi demo`: what was made, how good it is, and how long each step took."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.store import Store
from jobs.report.page import Section, page, preformatted
from jobs.report.sections import (
    metric_tiles,
    metrics_section,
    predictions_section,
    seconds_section,
    training_section,
    trials_section,
)
from jobs.report.sources import read_record


def write_demo_report(store: Store, summary: Mapping[str, Any], path: Path) -> None:
    """Write the page to `path`, whole or not at all.

    summary: the demo's summary.json. Read where present: dataset, run, model, endpoint, metrics, seconds {step: s}, and
    the run ids sweep and evaluation. What is missing is left out of the page.
    """
    sections = [seconds_section(summary.get("seconds", {}))]
    if summary.get("sweep"):
        record = read_record(store, summary["sweep"])
        metric = str(record.get("outputs", {}).get("metric", "value"))
        sections.append(trials_section(store, summary["sweep"], metric))
    if summary.get("run"):
        sections.append(training_section(store, summary["run"]))
    if summary.get("evaluation"):
        key = f"runs/{summary['evaluation']}/predictions.parquet"
        what = f"Frames of {summary.get('dataset', 'the dataset')} that the training never saw."
        sections.append(predictions_section(store, key, what))
    sections.append(metrics_section(summary.get("metrics", {})))
    if summary.get("endpoint"):
        sections.append(Section("Ask it", preformatted(_curl(summary)), "While the endpoint is up."))
    title = f"{summary.get('model', 'A model')} from raw data to an endpoint"
    lead = f"Trained on {summary.get('dataset', 'a dataset')} by run {summary.get('run', '-')}."
    write_page(path, page(title, lead, metric_tiles(summary.get("metrics", {})), sections, f"Store: {store.uri}"))


def write_page(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _curl(summary: Mapping[str, Any]) -> str:
    if "linear_probe_accuracy" in summary.get("metrics", {}):
        body, route = '{"images": [[[0.0, 0.5, ...], ...]]}', "embed"
    else:
        body = (
            '{"structures": [{"numbers": [8, 1, 1], "positions": [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]}]}'
        )
        route = "energy_forces"
    return f"curl {summary['endpoint']}/v1/{route} -H 'content-type: application/json' -d '{body}'"
