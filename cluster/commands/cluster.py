"""`equi cluster render`: manifests of a cluster, and of what runs on it."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import DryRunOption, JsonOption, SetOption
from cluster.commands.terminal import show_json
from cluster.files import write_files


def kuberay(
    specs: Annotated[
        list[Path],
        typer.Argument(metavar="SPEC...", help="A spec of kind cluster, and jobs and endpoints for it, in any order."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the manifests; made if absent.")],
    overrides: SetOption = None,
    run_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id of the run; by default it follows from the spec.")
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write Kubernetes manifests for KubeRay: a RayCluster, a RayJob for each job, a RayService for each endpoint.

    --set changes the cluster spec. A job and an endpoint bring a cluster of their own, so apply the files one by one.
    """
    from cluster.kuberay.render import render_kuberay

    files = render_kuberay(specs, overrides or [], run_id=run_id)
    written = write_files(out, files, dry_run=dry_run)
    if as_json:
        show_json({"files": [str(path) for path in written], "dry_run": dry_run})
        return
    for path in written:
        typer.echo(f"{'would write' if dry_run else 'wrote'} {path}")
