"""`equi data`: the datasets of the store."""

from typing import Annotated

import typer

from cluster.commands.options import DEFAULT_STORE, JsonOption, StoreOption
from cluster.commands.terminal import show_facts, show_json, show_table
from cluster.dataset.read import list_datasets, load_manifest
from cluster.dataset.verify import verify_dataset
from cluster.errors import UserError
from cluster.store import open_store

Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A dataset; without a version, the latest.")]


def list_all(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List every version of every dataset."""
    manifests = list_datasets(open_store(store))
    if as_json:
        names = {"name", "version", "kind", "rows", "splits", "digest", "created"}
        show_json([manifest.model_dump(mode="json", include=names) for manifest in manifests])
        return
    show_table(
        ("dataset", "kind", "rows", "splits", "megabytes", "created"),
        [(m.ref, m.kind, m.rows, m.splits, sum(s.bytes for s in m.shards) / 1e6, m.created) for m in manifests],
        nothing=f"There is no dataset in {store} yet; `equi data label SPEC` and `equi data ingest SPEC` make them.",
    )


def show(dataset: Reference, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show the manifest of a dataset: columns and units, splits, statistics, where it comes from."""
    manifest = load_manifest(open_store(store), dataset)
    if as_json:
        show_json(manifest.model_dump(mode="json"))
        return
    facts = manifest.model_dump(exclude={"columns", "shards", "name", "version"})
    show_facts({"dataset": manifest.ref, **facts, "shards": len(manifest.shards)})
    columns = [(column.name, column.type, column.unit or "-") for column in manifest.columns]
    typer.echo()
    show_table(("column", "type", "unit"), columns, nothing="It has no columns.")


def verify(dataset: Reference, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Read all of a dataset and compare files, rows and digest with its manifest. Exit code 2 if they differ."""
    opened = open_store(store)
    reference = load_manifest(opened, dataset).ref
    problems = verify_dataset(opened, reference)
    if as_json:
        show_json({"dataset": reference, "intact": not problems, "problems": problems})
    if problems and as_json:
        raise typer.Exit(UserError.exit_code)
    if problems:
        raise UserError(
            "\n".join([f"dataset {reference} is not what was published:", *(f"  {problem}" for problem in problems)]),
            hint="label or ingest it again; the new version takes the next number",
        )
    if not as_json:
        typer.echo(f"Dataset {reference} is intact: files, rows and digest are those of its manifest.")
