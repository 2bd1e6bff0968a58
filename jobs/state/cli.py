"""`equi export`: a published model, or the weights of a checkpoint, as a model folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.commands.options import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption
from cluster.commands.terminal import show_json
from cluster.errors import UserError
from cluster.registry import fetch_model, load_manifest
from cluster.runs import load_run
from cluster.store import Store, open_store
from jobs.state.program import FILE, Form, require_form, write_program


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
    program: Annotated[
        Form | None,
        typer.Option(
            "--program",
            help=f"Of a potential, also {FILE}: energy, forces and virial in one file that torch alone runs; compiled "
            "for processors like this one, it is faster, and takes a minute and a C++ compiler to make.",
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
    require_form(program)
    if "@" in source:
        if any(option is not None for option in (step, slot, width)):
            raise UserError("--step, --slot and --width choose among the checkpoints of a run, not of a model")
        what, manifest = _published(opened, source, out, dry_run)
    else:
        load_run(opened, source)
        what, manifest = _checkpoint(opened, source, out, step, slot or "best", width, dry_run)
    with_program = "" if program is None else f", with {FILE}"
    if dry_run:
        typer.echo(f"would write {what} to {out}{with_program}")
        return
    if program is not None:
        manifest["program"] = str(write_program(out, program))
    if as_json:
        show_json({"folder": str(out), **manifest})
    else:
        typer.echo(f"wrote {what} to {out}{with_program}")


def _published(store: Store, name: str, out: Path, dry_run: bool) -> tuple[str, dict[str, Any]]:
    """What is written, and its manifest."""
    manifest = load_manifest(store, name) if dry_run else fetch_model(store, name, out)
    return str(manifest.ref), manifest.model_dump(mode="json")


def _checkpoint(
    store: Store, run: str, out: Path, step: int | None, slot: str, width: float | None, dry_run: bool
) -> tuple[str, dict[str, Any]]:
    """What is written, and its manifest; without one where nothing is."""
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
    made = {} if dry_run else write_model(saved, slot, ModelDescription.from_json(saved.model), out)
    return f"{slot} of step {saved.step}", made
