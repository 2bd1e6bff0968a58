"""`equi export`: a published model, or the weights of a checkpoint, as a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption
from cluster.commands.terminal import show_json
from cluster.errors import UserError
from cluster.registry import fetch_model, load_manifest
from cluster.runs import load_run
from cluster.store import Store, open_store


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME@VERSION|RUN",
            help="A published model (NAME@VERSION or NAME@ALIAS), or the id of a training run.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A new or empty folder.", show_default=False)],
    step: Annotated[
        int | None,
        typer.Option("--step", help="A committed checkpoint of the run; the newest by default.", show_default=False),
    ] = None,
    slot: Annotated[
        str | None,
        typer.Option("--slot", help="Which weights of it: best (the default), average or value (as trained last)."),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            "--width",
            help="Instead of a slot: an average of this relative width, from all checkpoints that are kept; "
            "see schedule.posthoc_ema.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write a published model, or the weights of a checkpoint, as a model folder: safetensors and model.json."""
    opened = open_store(store)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already", allowed="a new or empty folder")
    if "@" in source:
        if any(option is not None for option in (step, slot, width)):
            raise UserError("--step, --slot and --width choose among the checkpoints of a run, not of a model")
        _published(opened, source, out, as_json=as_json, dry_run=dry_run)
    else:
        load_run(opened, source)
        _checkpoint(opened, source, out, step, slot or "best", width, as_json=as_json, dry_run=dry_run)


def _published(store: Store, name: str, out: Path, *, as_json: bool, dry_run: bool) -> None:
    manifest = load_manifest(store, name) if dry_run else fetch_model(store, name, out)
    if as_json and not dry_run:
        show_json({"folder": str(out), **manifest.model_dump(mode="json")})
    else:
        typer.echo(f"{'would write' if dry_run else 'wrote'} {manifest.ref} to {out}")


def _checkpoint(
    store: Store,
    run: str,
    out: Path,
    step: int | None,
    slot: str,
    width: float | None,
    *,
    as_json: bool,
    dry_run: bool,
) -> None:
    from equimodels.assemble import ModelDescription  # torch, which the list of commands does without
    from jobs.checkpoints import open_checkpoint
    from jobs.state.export import open_width, require_slot, write_model
    from jobs.training.posthoc import slot_of

    if width is None:
        saved = open_checkpoint(store, run, step)
    else:
        saved, slot = open_width(store, run, step, width), slot_of(width)
    require_slot(saved, slot)
    if saved.model is None:
        raise UserError(f"the checkpoints of {run} do not say which model they are of")
    if dry_run:
        typer.echo(f"would write {slot} of step {saved.step} to {out}")
        return
    manifest = write_model(saved, slot, ModelDescription.from_json(saved.model), out)
    if as_json:
        show_json({"folder": str(out), **manifest})
    else:
        typer.echo(f"wrote {slot} of step {saved.step} to {out}")
