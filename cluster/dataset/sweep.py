"""Removing what no version of a dataset needs: shards of ingests that were killed before their manifest.

Files are listed before manifests are read, so a version that appears meanwhile keeps its shards. An ingest that finds
a shard, has it swept, and commits then, is told so by the commit; live runs that may do that are waited for instead.
"""

from dataclasses import dataclass

from cluster.dataset.catalog import read_manifest
from cluster.dataset.manifest import pool
from cluster.errors import ConflictError
from cluster.names import checked_name, unknown, versions
from cluster.runs import judge_run, list_runs
from cluster.store import Store

WRITERS = frozenset({"dataset", "label", "prepare"})  # kinds of runs that write datasets


@dataclass(frozen=True)
class Swept:
    """Keys that no version names, and how many files the versions do name."""

    removed: tuple[str, ...]
    kept: int


def sweep_dataset(store: Store, name: str, *, remove: bool = True) -> Swept:
    """Remove every file of dataset `name` that no manifest names. remove: False only says which.

    Raises `ConflictError` while a run that may write datasets is live, `NotFoundError` where there is no such dataset,
    `StoreError` where a manifest cannot be read: what it names is then unknown, and nothing is removed.
    """
    checked_name("dataset", name)
    live = _live_writers(store)
    if live and remove:
        raise ConflictError(
            f"{', '.join(live)} may be writing datasets now", hint="sweep when it has ended, or stop it: equi stop RUN"
        )
    keys = store.list(pool(name))
    if not keys:
        raise unknown(store, "dataset", name)
    needed: set[str] = set()
    for version in versions(store, "dataset", name):
        manifest = read_manifest(store, name, version)
        needed.add(f"{manifest.folder}/manifest.json")
        needed |= {manifest.key_of(shard) for shard in manifest.shards}
        needed |= {manifest.key_of(manifest.sizes)} if manifest.sizes is not None else set()
    orphans = tuple(key for key in keys if key not in needed)
    if remove:
        for key in orphans:
            store.delete(key)
    return Swept(orphans, len(keys) - len(orphans))


def _live_writers(store: Store) -> list[str]:
    records = [record for record in list_runs(store) if record.kind in WRITERS and not record.is_over]
    return [record.id for record in records if judge_run(store, record)[1].status in ("pending", "running")]
