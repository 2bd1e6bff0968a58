"""`equi dashboards`: the Grafana dashboard as a file, or sent to a server."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import DryRunOption, JsonOption
from cluster.commands.terminal import show_json
from cluster.dashboards.render import render_dashboard
from cluster.files import write_files


def render(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the JSON file; made if absent.")],
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the Grafana dashboard for training, sweeps and endpoints as a JSON file."""
    dashboard = render_dashboard()
    text = json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
    files = {f"{dashboard['uid']}.json": text.encode()}
    written = write_files(out, files, dry_run=dry_run)
    if as_json:
        show_json({"files": [str(path) for path in written], "dry_run": dry_run})
        return
    for path in written:
        typer.echo(f"{'would write' if dry_run else 'wrote'} {path}")


def push(
    url: Annotated[str, typer.Option("--url", help="Of the Grafana server: http(s)://host[:port][/path].")],
    token_file: Annotated[
        Path, typer.Option("--token-file", help="File with the token of a Grafana service account, mode 0600.")
    ],
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send the Grafana dashboard to a server. One that is there already is saved again only if it differs."""
    from cluster.dashboards.push import push_dashboard
    from cluster.token import read_token

    pushed = push_dashboard(url, read_token(token_file), render_dashboard(), dry_run=dry_run)
    if as_json:
        show_json({"action": pushed.action, "address": pushed.address, "dry_run": pushed.dry_run, "diff": pushed.diff})
        return
    if dry_run and pushed.diff:
        typer.echo(pushed.diff)
    if pushed.action == "unchanged":
        typer.echo(f"unchanged: {pushed.address}")
    else:
        verb = {"created": "create", "changed": "change"}[pushed.action]
        typer.echo(f"would {verb}: {pushed.address}" if dry_run else f"{pushed.action}: {pushed.address}")
