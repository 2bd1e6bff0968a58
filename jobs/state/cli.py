"""`equi export`: the weights of a checkpoint as a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption
from cluster.commands.terminal import show_json
from cluster.errors import UserError
from cluster.runs import load_run
from cluster.store import open_store


def export(
    run: Annotated[str, typer.Argument(help="The id of a training run.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new or empty folder.", show_default=False)],
    step: Annotated[
        int | None, typer.Option("--step", help="A committed checkpoint; the newest by default.", show_default=False)
    ] = None,
    slot: Annotated[
        str, typer.Option("--slot", help="Which weights: best, average or value (as they were trained last).")
    ] = "best",
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
    """Write the weights of a checkpoint as a model folder: safetensors and model.json, as published models have."""
    opened = open_store(store)
    load_run(opened, run)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists already", allowed="a new or empty folder")
    from equimodels.assemble import ModelDescription  # torch, which the list of commands does without
    from jobs.checkpoints import open_checkpoint
    from jobs.state.export import open_width, require_slot, write_model
    from jobs.training.posthoc import slot_of

    if width is None:
        saved = open_checkpoint(opened, run, step)
    else:
        saved, slot = open_width(opened, run, step, width), slot_of(width)
    require_slot(saved, slot)
    if saved.model is None:
        raise UserError(f"the checkpoints of {run} do not say which model they are of")
    if dry_run:
        typer.echo(f"would write {slot} of step {saved.step} to {to}")
        return
    manifest = write_model(saved, slot, ModelDescription.from_json(saved.model), to)
    if as_json:
        show_json({"folder": str(to), **manifest})
    else:
        typer.echo(f"wrote {slot} of step {saved.step} to {to}")
