"""The runner of kind `dataset`: pieces of files are read side by side, splits decided, shards written, a version made.

Every finished piece is staged on the store. Whenever the run is killed, it starts again from there: what is staged is
not read again, shards that are there are found by their content, and nothing is visible before the manifest.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.context import RunContext
from cluster.errors import UserError
from jobs.ingest.assembly import publish_plans, stop_if_asked
from jobs.ingest.catalogue import find_source
from jobs.ingest.conversion import IN_EV, described, factors, held
from jobs.ingest.decision import decide
from jobs.ingest.reference import by_symbol, reference_energies
from jobs.ingest.schedule import Execute, on_ray
from jobs.ingest.source import Piece, Source
from jobs.ingest.staging import Index, staged
from jobs.ingest.tasks import Read, Work, read_piece
from jobs.spec.dataset import DatasetSpec


def run(spec: DatasetSpec, context: RunContext, execute: Execute = on_ray) -> dict[str, Any]:
    """Publish the dataset; returns `dataset` (name@version), `rows`, `splits`, `skipped`, `digest`.

    Raises UserError: a file that is missing or of another format, rows that cannot be read (unless they are to be
    skipped), copies in two splits, nothing left to train on. Nothing is published then.
    """
    folder = Path.cwd()
    source, settings = find_source(spec.source)
    pieces = source.plan(settings, folder)
    work = _work(spec, source, settings, folder, context.run_id)
    indexes = _read(pieces, work, context, execute)
    decision = decide(indexes, spec.split, spec.seed)
    stop_if_asked(context)
    published = publish_plans(
        context,
        spec.dataset_name,
        work.kind,
        indexes,
        decision.shards,
        decision.filled,
        provenance={
            "kind": "dataset",
            "run": context.run_id,
            "origin": sorted({piece.shown for piece in pieces}),
            "source": spec.source.model_dump(mode="json"),
            "split": {**spec.split.model_dump(mode="json"), **decision.about},
            "seed": spec.seed,
            "on_error": spec.on_error,
            **_quantities(spec, source, work),
            **source.about(settings, pieces),
        },
        execute=execute,
    )
    if published.notice is not None:
        context.progress.say(published.notice)
    manifest = published.manifest
    return {
        "dataset": manifest.ref,
        "rows": manifest.rows,
        "splits": dict(manifest.splits),
        "skipped": manifest.skipped.count,
        "digest": manifest.digest,
    }


def _work(spec: DatasetSpec, source: Source, settings: Any, folder: Path, run: str) -> Work:
    kind = source.kind(settings)
    if kind != "structures" or source.units is None:
        return Work(run=run, source=spec.source, kind=kind, fail=spec.on_error == "fail")
    units = held(spec.units, source.units)
    key = getattr(settings, "energy_key", None) or "energy"
    return Work(
        run=run,
        source=spec.source,
        kind=kind,
        factors=factors(units),
        references=reference_energies(spec.reference_energies, folder, energy_key=key, in_ev=IN_EV[str(units.energy)]),
        fail=spec.on_error == "fail",
        formulas=spec.split.by == "composition",
    )


def _quantities(spec: DatasetSpec, source: Source, work: Work) -> dict[str, Any]:
    """For the provenance: what was done to the numbers of structures."""
    told: dict[str, Any] = {}
    if work.factors is not None and source.units is not None:
        told["units"] = described(held(spec.units, source.units), work.factors)
    if work.references:
        told["reference_energies_eV"] = by_symbol(work.references)
    return told


def _read(pieces: Sequence[Piece], work: Work, context: RunContext, execute: Execute) -> list[Index]:
    """The indexes of all pieces, in their order; those that are not staged yet are read."""
    found = staged(context.store, work.run, [work.digest(piece) for piece in pieces])
    if found:
        context.progress.say(f"{len(found)} of {len(pieces)} pieces were read before; going on after them")
    counted = [piece.rows for piece in pieces]
    total = None if None in counted else sum(rows or 0 for rows in counted)
    with context.progress.task("read", total=total, unit="rows", rated=True) as task:
        skipped = sum(index.unread_count for index in found.values())

        def told() -> dict[str, Any]:
            shown: dict[str, Any] = {} if total is not None else {"pieces": f"{len(found)}/{len(pieces)}"}
            return shown | ({"skipped": skipped} if skipped else {})

        if found:
            task.update(completed=sum(_rows(index) for index in found.values()), **told())
        left = [number for number in range(len(pieces)) if number not in found]
        calls = [(context.store, work, number, pieces[number]) for number in left]
        for _, report in execute(read_piece, calls, context.stop_requested):
            if report.problem_count:
                raise _unreadable(report, pieces[report.number])
            found[report.number] = report.index
            skipped += report.index.unread_count
            task.advance(_rows(report.index), **told())
    stop_if_asked(context)
    return [found[number] for number in range(len(pieces))]


def _unreadable(report: Read, piece: Piece) -> UserError:
    lines = [f"  {each.where}: {each.reason}" for each in report.problems]
    more = report.problem_count - len(report.problems)
    rows = "1 row" if report.problem_count == 1 else f"{report.problem_count} rows"
    head = f"{rows} of {piece.file or piece.shown} cannot be read; nothing was published:"
    return UserError(
        "\n".join([head, *lines, *([f"  and {more} more"] if more else [])]),
        hint="put them right, or leave them out with on_error: skip; they are then listed in the manifest",
    )


def _rows(index: Index) -> int:
    return len(index.rows) + index.unread_count
