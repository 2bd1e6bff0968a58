"""A model folder from a training state: what is published, and what `equi export` writes."""

from pathlib import Path
from typing import Any

import torch

from cluster.errors import UserError
from cluster.store import Store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import save_model
from jobs.checkpoints import open_checkpoint
from jobs.checkpoints.commit import committed_steps
from jobs.checkpoints.layout import home
from jobs.ports import Saved
from jobs.state.piece import holds_weights
from jobs.state.whole import whole
from jobs.training.reconstruct import reconstruct


def write_model(saved: Saved, slot: str, description: ModelDescription, folder: Path) -> dict[str, Any]:
    """Write the weights of `slot` as a model folder; returns its manifest, which says of which step they are.

    The model is built once and its parameters are filled one at a time: a whole training state is never in memory.
    Raises UserError where the state has no such weights, or they are not of this model.
    """
    require_slot(saved, slot)
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn and thrown away
        model = assemble(description)
    parameters = dict(model.named_parameters())
    if found := sorted(parameters.keys() ^ saved.shapes.keys()):
        raise UserError(f"the checkpoint is of another model: {found[0]} is not in both")
    for name, parameter in parameters.items():
        if tuple(parameter.shape) != tuple(saved.shapes[name]):
            shapes = f"{tuple(saved.shapes[name])} there and {tuple(parameter.shape)} here"
            raise UserError(f"the checkpoint is of another model: {name} is {shapes}")
        parameter.data = whole(saved, slot, name)
    return save_model(folder, model, description, {"step": saved.step, "slot": slot})


def open_width(store: Store, run: str, step: int | None, width: float) -> Saved:
    """The average of a relative width that was not kept, as of a step; from the checkpoints of a run up to there.

    Raises UserError where they hold no averages of chosen widths, or the width is impossible.
    """
    last = open_checkpoint(store, run, step)
    before = [open_checkpoint(store, run, other) for other in committed_steps(store, home(run)) if other < last.step]
    try:
        return reconstruct([*before, last], width)
    except ValueError as error:
        raise UserError(str(error)) from error


def require_slot(saved: Saved, slot: str) -> None:
    """Raise UserError, naming those there are, unless the state has such weights."""
    there = [name for name in saved.slots if holds_weights(name)]
    if slot not in there:
        raise UserError(f"the checkpoint of step {saved.step} has no weights {slot!r}", allowed=", ".join(there))
