"""The report of one run of any kind: what it made, how it went, what it was asked."""

from pathlib import Path
from typing import Any

from cluster.runs import RunRecord, load_run, load_spec_text
from cluster.store import Store
from jobs.report.demo import write_page
from jobs.report.page import Section, Tile, page, preformatted, table
from jobs.report.sections import metric_tiles, metrics_section, predictions_section, trials_section
from jobs.report.training import training_sections


def write_run_report(store: Store, run: str, path: Path) -> None:
    """Write the page about a run to `path`. Raises NotFoundError."""
    record = load_run(store, run)
    outputs = record.outputs
    metrics: dict[str, Any] = outputs.get("metrics", {})
    sections = []
    if record.error is not None:
        sections.append(Section("Why it failed", preformatted(record.error.message), _where(record)))
    headlines, parts = training_sections(store, run)
    sections += [*parts, trials_section(store, run, str(outputs.get("metric", "value")))]
    if "predictions" in outputs:
        what = f"{outputs.get('split', '')} rows of {outputs.get('dataset', 'the dataset')} by {outputs.get('model')}."
        sections.append(predictions_section(store, outputs["predictions"], what.strip()))
    plain = [(name, value) for name, value in outputs.items() if not isinstance(value, dict)]
    plain += [
        (f"{name}.{key}", value) for name, part in outputs.items() if isinstance(part, dict) and name != "metrics"
        for key, value in part.items()
    ]  # fmt: skip
    if plain:
        sections.append(Section("Outputs", table(["output", "value"], plain)))
    sections += [metrics_section(metrics), Section("Spec", preformatted(load_spec_text(store, run)))]
    lead = f"Run {record.id}: {record.kind}, {record.status}, attempt {record.attempt}."
    footer = f"Code {record.code_version or 'unknown'}; store {store.uri}"
    write_page(path, page(record.name, lead, [*metric_tiles(metrics), *headlines, *_times(record)], sections, footer))


def _times(record: RunRecord) -> list[Tile]:
    if record.started is None or record.ended is None:
        return []
    seconds = (record.ended - record.started).total_seconds()
    return [Tile("seconds", f"{seconds:.1f}", f"ended {record.ended:%Y-%m-%d %H:%M} UTC")]


def _where(record: RunRecord) -> str:
    if record.error is None:
        return ""
    rank = "" if record.error.rank is None else f"rank {record.error.rank}; "
    return f"{rank}log: {record.error.log or 'none was kept'}"
