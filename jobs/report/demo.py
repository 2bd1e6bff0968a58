"""The report of `equi demo`: what was made, how good it is, and how long each step took."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.store import Store
from jobs.report.page import page
from jobs.report.sections import (
    metric_tiles,
    metrics_section,
    predictions_section,
    seconds_section,
    trials_section,
)
from jobs.report.sources import read_record
from jobs.report.training import training_section


def write_demo_report(store: Store, summary: Mapping[str, Any], path: Path) -> None:
    """Write the page to `path`, whole or not at all.

    summary: the demo's summary.json. Read where present: dataset, model, endpoint, metrics, seconds {step: s}, and
    runs {data, sweep, train, check}: ids. What is missing is left out of the page.
    """
    runs: Mapping[str, str] = summary.get("runs", {})
    sections = []
    if "check" in runs:
        key = f"runs/{runs['check']}/predictions.parquet"
        what = f"Frames of {summary.get('dataset', 'the dataset')} that the training never saw."
        sections.append(predictions_section(store, key, what))
    if "train" in runs:
        sections.append(training_section(store, runs["train"]))
    if "sweep" in runs:
        metric = str(read_record(store, runs["sweep"]).get("outputs", {}).get("metric", "value"))
        sections.append(trials_section(store, runs["sweep"], metric))
    sections += [metrics_section(summary.get("metrics", {})), seconds_section(summary.get("seconds", {}))]
    title = f"{summary.get('model', 'A model')} from raw data to an endpoint"
    lead = f"Trained on {summary.get('dataset', 'a dataset')} by run {summary.get('run', '-')}"
    lead += f", checked at {summary['endpoint']}." if summary.get("endpoint") else "."
    write_page(path, page(title, lead, metric_tiles(summary.get("metrics", {})), sections, f"Store: {store.uri}"))


def write_page(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
