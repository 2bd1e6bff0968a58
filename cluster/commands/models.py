"""`equi models`, `show`, `promote`, `rollback`: the registry of models."""

import getpass
from typing import Annotated, Any

import typer

from cluster.commands.options import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption
from cluster.commands.terminal import show_facts, show_json, show_table
from cluster.errors import UserError
from cluster.names import as_version, checked_name
from cluster.registry import list_models, load_aliases, load_manifest, move_alias, resolve
from cluster.registry import rollback as move_alias_back
from cluster.store import Store, open_store

METRICS_SHOWN = 3

Reference = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION|@ALIAS]", help="A model; a bare name means the latest version.")
]
AliasOption = Annotated[str, typer.Option("--alias", help="The alias that is moved, for example prod.")]
WhyOption = Annotated[str, typer.Option("--why", help="Kept in the history of the alias.")]


def models(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List every version of every model, and which aliases point at it."""
    opened = open_store(store)
    manifests = list_models(opened)
    pointing = {name: _aliases(opened, name) for name in {manifest.name for manifest in manifests}}
    described: list[dict[str, Any]] = [
        {
            "model": str(m.ref),
            "aliases": pointing[m.name].get(m.version, []),
            "task": m.task,
            "metrics": m.metrics,
            "dataset": (m.dataset or {}).get("ref"),
            "run": m.run,
            "created": m.created,
        }
        for m in manifests
    ]
    if as_json:
        show_json(described)
        return
    for facts in described:
        facts["metrics"] = dict(sorted(facts["metrics"].items())[:METRICS_SHOWN])
    columns = ("model", "aliases", "task", "metrics", "dataset", "run", "created")
    nothing = f"There is no model in {store} yet; a train spec with `publish` makes one."
    show_table(columns, [[facts[column] for column in columns] for facts in described], nothing=nothing)


def show(model: Reference, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show where a model comes from: dataset, run, code version, metrics, files. Its whole spec is in --json."""
    opened = open_store(store)
    manifest = load_manifest(opened, model)
    aliases = _aliases(opened, manifest.name).get(manifest.version, [])
    if as_json:
        show_json({**manifest.model_dump(mode="json"), "aliases": aliases})
        return
    facts = manifest.model_dump(exclude={"name", "version", "spec", "files", "publication"})
    files = {file.path: f"{file.bytes} bytes, sha256 {file.sha256[:12]}" for file in manifest.files}
    show_facts({"model": str(manifest.ref), "aliases": aliases, **facts, "files": files})


def promote(
    model: Reference,
    alias: AliasOption,
    why: WhyOption = "promoted",
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let an alias point at a version. An endpoint that follows the alias takes it at its next deployment."""
    opened = open_store(store)
    _refuse_a_number(alias)
    reference = resolve(opened, model)
    before = load_aliases(opened, reference.name).aliases.get(alias)
    if not dry_run:
        move_alias(opened, reference.name, alias, reference.version, who=_who(), why=why)
    _tell(reference.name, alias, before, reference.version, dry_run=dry_run, as_json=as_json)


def rollback(
    model: Annotated[str, typer.Argument(metavar="NAME", help="A model.")],
    alias: AliasOption,
    why: WhyOption = "rolled back",
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let an alias point at the version that it pointed at before; twice goes back two versions."""
    opened = open_store(store)
    now = load_aliases(opened, model)
    if dry_run:
        # The same refusals as the real move, which alone may look and write in one step.
        before = resolve(opened, f"{model}@{checked_name('alias', alias)}").version
        after = now.before(alias)
        if after is None:
            raise UserError(f"alias {alias!r} of model {model!r} has never pointed at another version")
        resolve(opened, f"{model}@{after}")
    else:
        moved = move_alias_back(opened, model, alias, who=_who(), why=why)
        last = moved.history[-1]
        before, after = last.previous or 0, last.version
    _tell(model, alias, before, after, dry_run=dry_run, as_json=as_json)


def _tell(name: str, alias: str, before: int | None, after: int, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        facts: dict[str, Any] = {"model": name, "alias": alias, "before": before, "after": after, "dry_run": dry_run}
        show_json(facts)
    elif before == after:
        typer.echo(f"{name}@{alias} is version {after} already; nothing {'would change' if dry_run else 'changed'}.")
    else:
        was = f"was version {before}" if before else "is new"
        typer.echo(f"{name}@{alias} {'would become' if dry_run else 'is now'} version {after} ({was}).")


def _aliases(store: Store, name: str) -> dict[int, list[str]]:
    """The aliases of a model by the version they point at."""
    pointing: dict[int, list[str]] = {}
    for alias, version in sorted(load_aliases(store, name).aliases.items()):
        pointing.setdefault(version, []).append(alias)
    return pointing


def _refuse_a_number(alias: str) -> None:
    if as_version(checked_name("alias", alias)) is not None:
        raise UserError(f"{alias!r} is no name for an alias", allowed="a word: numbers are versions")


def _who() -> str:
    """The user's name for the history; a container may run under a number without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
