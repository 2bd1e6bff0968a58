"""`equi data`: the datasets of the store."""

from typing import Annotated, Any

import typer

from cluster.commands.options import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption
from cluster.commands.terminal import show_facts, show_json, show_table
from cluster.dataset.blocks import REPAIR
from cluster.dataset.catalog import list_datasets, load_manifest
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.sweep import sweep_dataset
from cluster.dataset.verify import verify_dataset
from cluster.errors import UserError
from cluster.store import open_store

_SKIPPED_SHOWN = 10
_LONG = 12  # entries of a statistic that are shown; all are in --json

Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A dataset; without a version, the latest.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A dataset; all its versions are meant.")]


def list_all(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List every version of every dataset."""
    manifests = list_datasets(open_store(store))
    if as_json:
        names = {"name", "version", "kind", "rows", "splits", "digest", "created"}
        show_json([manifest.model_dump(mode="json", include=names) for manifest in manifests])
        return
    show_table(
        ("dataset", "kind", "rows", "splits", "megabytes", "created"),
        [(m.ref, m.kind, m.rows, m.splits, _bytes(m) / 1e6, m.created) for m in manifests],
        nothing=f"There is no dataset in {store} yet; `equi data label SPEC` and `equi data ingest SPEC` make them.",
    )


def show(dataset: Reference, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show the manifest of a dataset: columns and units, splits, statistics, where it comes from. All is in --json."""
    manifest = load_manifest(open_store(store), dataset)
    if as_json:
        show_json(manifest.model_dump(mode="json"))
        return
    facts = manifest.model_dump(exclude={"columns", "shards", "sizes", "skipped", "name", "version"})
    facts["statistics"] = {name: _shortened(figure) for name, figure in manifest.statistics.items()}
    groups = sum(len(shard.groups) for shard in manifest.shards)
    files = {"shards": len(manifest.shards), "row groups": groups or None, "megabytes": _bytes(manifest) / 1e6}
    show_facts({"dataset": manifest.ref, **facts, **{k: v for k, v in files.items() if v is not None}})
    columns = [(column.name, column.type, column.unit or "-") for column in manifest.columns]
    typer.echo()
    show_table(("column", "type", "unit"), columns, nothing="It has no columns.")
    if manifest.skipped.count:
        _show_skipped(manifest)


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
            hint=REPAIR,
        )
    if not as_json:
        typer.echo(f"Dataset {reference} is intact: files, rows and digest are those of its manifest.")


def sweep(
    name: Name, store: StoreOption = DEFAULT_STORE, dry_run: DryRunOption = False, as_json: JsonOption = False
) -> None:
    """Remove the files of a dataset that no version needs: what ingests that were killed have left."""
    swept = sweep_dataset(open_store(store), name, remove=not dry_run)
    if as_json:
        show_json({"dataset": name, "removed": [] if dry_run else swept.removed, "unneeded": swept.removed})
        return
    for key in swept.removed:
        typer.echo(key)
    done = "would be removed" if dry_run else "removed"
    typer.echo(f"{len(swept.removed)} files that no version of {name} needs {done}; {swept.kept} stay.")


def _bytes(manifest: DatasetManifest) -> int:
    return sum(shard.bytes for shard in manifest.shards)


def _shortened(figure: Any) -> Any:
    """A table of counts is as long as the dataset is varied; a terminal is not."""
    if not isinstance(figure, dict) or len(figure) <= _LONG:
        return figure
    return {**dict(list(figure.items())[:_LONG]), "...": f"{len(figure) - _LONG} more"}


def _show_skipped(manifest: DatasetManifest) -> None:
    listed = manifest.skipped.listed[:_SKIPPED_SHOWN]
    typer.echo(f"\n{manifest.skipped.count} rows could not be read and were left out:")
    show_table(("where", "why"), [(row.get("where"), row.get("reason")) for row in listed], nothing="None is listed.")
    if manifest.skipped.count > len(listed):
        typer.echo(f"... and {manifest.skipped.count - len(listed)} more; those listed in the manifest are in --json.")
