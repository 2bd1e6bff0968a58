"""The runner of kind `prepare`: every row group of a dataset through the steps, then a new version.

Finished row groups are staged on the store; a run that starts again does only those that are missing.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cluster.context import RunContext
from cluster.dataset.catalog import load_manifest
from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.statistics import describe, merge
from cluster.errors import NotFoundError, UserError
from cluster.stopping import Stop
from cluster.store import encode_json, read_json
from jobs.ingest.assembly import publish_staged
from jobs.ingest.schedule import Execute, on_ray
from jobs.ingest.staging import Index, parts_prefix, staged
from jobs.prepare.catalogue import STEPS, settings_of
from jobs.prepare.figures import from_json
from jobs.prepare.flow import on_ray_data
from jobs.prepare.group import Done, Work
from jobs.spec.frozen import Component
from jobs.spec.prepare import PrepareSpec, PrepareWorkers

Flow = Callable[[Work, Sequence[int], PrepareWorkers, bool, Callable[[], bool]], Iterator[Done]]


def run(spec: PrepareSpec, context: RunContext, flow: Flow = on_ray_data, execute: Execute = on_ray) -> dict[str, Any]:
    """Prepare and publish; returns `dataset`, `rows`, `splits`, `digest`, `dropped`; for statistics, `statistics`.

    Raises UserError for a step that does not fit the dataset, rows that a step cannot do, or no row that is left.
    """
    reference, steps = pinned_steps(spec, context)
    dataset = open_dataset(reference, store=context.store)
    refuse_misfits(steps, dataset.manifest)
    work = plan_work(spec, dataset, steps, context)
    indexes = prepare_groups(spec, work, dataset, context, flow)
    dropped = _dropped(indexes)
    for reason, count in dropped.items():
        context.progress.say(f"dropped {count} rows: {reason}")
    if not spec.publishes:
        return _figures(dataset.manifest, indexes, dropped, context)
    if not any(len(index.rows) for index in indexes):
        raise UserError(
            "no row is left: every one was dropped", hint=", ".join(f"{k}: {v}" for k, v in dropped.items())
        )
    provenance = {
        "kind": "prepare",
        "run": context.run_id,
        "parent": {"dataset": dataset.manifest.ref, "digest": dataset.manifest.digest},
        "steps": [_told(given, step) for given, step in zip(spec.steps, steps, strict=True)],
        "dropped": dropped,
    }
    kind = dataset.manifest.kind
    published = publish_staged(context, spec.dataset_name, kind, indexes, provenance=provenance, execute=execute)
    if published.notice:
        context.progress.say(published.notice)
    manifest = published.manifest
    return {
        "dataset": manifest.ref,
        "rows": manifest.rows,
        "splits": dict(manifest.splits),
        "digest": manifest.digest,
        "dropped": dropped,
    }


def pinned_steps(spec: PrepareSpec, context: RunContext) -> tuple[str, tuple[Component, ...]]:
    """The version of the dataset, and the steps with versions of models and lists of ids.

    They are looked up once: a run that starts again goes on with what it began with.
    """
    key = f"{parts_prefix(context.run_id)}/pinned.json"
    try:
        pinned = read_json(context.store, key)
    except NotFoundError:
        pinned = {
            "dataset": load_manifest(context.store, spec.data.uri).ref,
            "params": [STEPS[step.name].pin(settings_of(step), context.store) for step in spec.steps],
        }
        context.store.write(key, encode_json(pinned))
    steps = [
        step.model_copy(update={"params": {**step.params, **params}})
        for step, params in zip(spec.steps, pinned["params"], strict=True)
    ]
    return pinned["dataset"], tuple(steps)


def plan_work(spec: PrepareSpec, dataset: Dataset, steps: tuple[Component, ...], context: RunContext) -> Work:
    """What all row groups share."""
    decides = f"{dataset.manifest.digest} {[step.model_dump_json() for step in steps]}"
    return Work(
        store=context.store.uri,
        run=context.run_id,
        dataset=dataset.manifest.ref,
        digest=hashlib.sha256(decides.encode()).hexdigest(),
        steps=steps,
        publishes=spec.publishes,
        device="cuda" if spec.workers.gpus else "cpu",
    )


def refuse_misfits(steps: Sequence[Component], manifest: DatasetManifest) -> None:
    """Raise UserError for a step that this dataset cannot go through."""
    columns = frozenset(column.name for column in manifest.columns)
    for step in steps:
        lacking = STEPS[step.name].lacking(settings_of(step), manifest.kind, columns)
        if lacking is not None:
            raise UserError(f"step {step.name!r} cannot be done with {manifest.ref}: {lacking}")


def prepare_groups(spec: PrepareSpec, work: Work, dataset: Dataset, context: RunContext, flow: Flow) -> list[Index]:
    """The indexes of all row groups, in their order; those that are not staged yet are prepared."""
    total = len(dataset.groups())
    digests = [work.digest_of(number) for number in range(total)]
    found = staged(context.store, work.run, digests)
    if found:
        context.progress.say(f"{len(found)} of {total} row groups were prepared before; going on after them")
    left = [number for number in range(total) if number not in found]
    keeps = any(STEPS[step.name].slow for step in work.steps)
    with context.progress.task("prepare", total=len(dataset), unit="rows", rated=True) as task:
        dropped = sum(_dropped(list(found.values())).values())
        if found:  # not advanced: what is there says nothing about how fast this attempt is
            task.update(completed=sum(index.about["read"] for index in found.values()), dropped=dropped)
        for done in flow(work, left, spec.workers, keeps, context.stop_requested) if left else ():
            dropped += done.dropped
            task.advance(done.rows, dropped=dropped)
    if context.stop_requested():
        context.progress.say("what was prepared stays on the store; `equi resume` goes on after it")
        raise Stop("a stop was requested")
    found = staged(context.store, work.run, digests)
    return [found[number] for number in range(total)]


def _told(given: Component, pinned: Component) -> dict[str, Any]:
    """The step with versions in place of aliases; of a file of ids its name, not all that is in it."""
    changed = {name: value for name, value in pinned.params.items() if isinstance(value, str)}
    return {"name": given.name, "params": {**given.model_dump(mode="json")["params"], **changed}}


def _dropped(indexes: Sequence[Index]) -> dict[str, int]:
    total: dict[str, int] = {}
    for index in indexes:
        for reason, count in index.about["dropped"].items():
            total[reason] = total.get(reason, 0) + count
    return dict(sorted(total.items()))


def _figures(
    manifest: DatasetManifest, indexes: Sequence[Index], dropped: dict[str, int], context: RunContext
) -> dict[str, Any]:
    parts = [(split, from_json(told)) for index in indexes for split, told in index.about["figures"]]
    if not parts:
        raise UserError("no row is left to measure: every one was dropped")
    splits: dict[str, int] = {}
    for split, part in parts:
        splits[split] = splits.get(split, 0) + part["rows"]
    figures = describe(merge(parts), manifest.kind)
    for name, value in figures.items():
        context.progress.say(f"{name}: {value}")
    context.store.delete_folder(parts_prefix(context.run_id))
    return {
        "of": manifest.ref,
        "rows": sum(splits.values()),
        "splits": splits,
        "dropped": dropped,
        "statistics": figures,
    }
