"""`equi report`: a page about a run."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import DEFAULT_STORE, DryRunOption, StoreOption
from cluster.runs import load_run
from cluster.store import open_store


def report(
    run: Annotated[str, typer.Argument(help="The id of a run.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file to write; default RUN.html here.", show_default=False)
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
) -> None:
    """Write a self-contained HTML page about a run: curves, trials, predictions, outputs, spec."""
    opened = open_store(store)
    path = out if out is not None else Path(f"{run}.html")
    load_run(opened, run)
    if dry_run:
        typer.echo(f"would write {path}")
        return
    from jobs.report.run import write_run_report  # matplotlib, which a dry run does without

    write_run_report(opened, run, path)
    typer.echo(f"wrote {path}")
