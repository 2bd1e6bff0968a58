"""Every combination of strategies, and one step with each on a tiny model."""

import itertools
import math
import traceback

import tiny
import torch
from tiny import Potential, Transformer

from jobs.strategy.refusals import refusals
from jobs.world import World

LAYOUTS = [
    {"kind": "single"},
    {"kind": "ddp"},
    *({"kind": "deepspeed", "zero_stage": stage} for stage in range(4)),
    {"kind": "fsdp"},
]
OPTIMIZERS = [{"name": "adamw"}, {"name": "muon"}]
TASKS = {"potential": Potential, "transformer": Transformer}


def combinations(*, compiled):
    """(task, strategy, optimizer) of the whole grid; single only where that is one process."""
    axes = itertools.product(
        TASKS,
        LAYOUTS,
        ("root", "blocks"),
        ("double_backward", "two_phase"),
        ("fp32", "bf16"),
        (False, True),
        OPTIMIZERS,
    )
    for task, layout, units, force_gradient, precision, recompute, optimizer in axes:
        how = {"units": units, "force_gradient": force_gradient, "precision": precision, "recompute": recompute}
        yield task, {**layout, **how, "compile": compiled}, optimizer


def wanted(strategy, optimizer):
    """The spec of a combination, on two workers or in one process."""
    workers = {"min": 1, "max": 1 if strategy["kind"] == "single" else tiny.MICRO_BATCHES}
    accumulate = tiny.MICRO_BATCHES // workers["max"]
    return tiny.spec({**strategy, "accumulate": accumulate}, optimizer=optimizer, resources={"workers": workers})


def refused(task, strategy, optimizer):
    """What the service says to a combination, on machines without GPUs."""
    return refusals(wanted(strategy, optimizer), conservative=task == "potential", cuda=False)


def steps(world, chosen):
    """Two steps with each of the combinations: the losses, the norms and all parameters, or the error."""
    found = []
    for name, strategy, optimizer in chosen:
        alone = World() if strategy["kind"] == "single" else world
        task = TASKS[name]()
        try:
            made = tiny.engine(task, alone, wanted(strategy, optimizer))
            losses, norms = tiny.train(made, task, alone, range(2))
            values = torch.cat([values for _, values in sorted(tiny.state(made, alone)["value"].items())])
            found.append((losses, norms, values))
        except Exception:
            found.append(traceback.format_exc())
    return found


def agree(one, other, strategy, optimizer):
    """Whether two results are the same up to rounding.

    Muon makes its updates orthogonal in bf16, so that a last bit of a gradient is up to 2^-7 of an update. Of compiled
    blocks that leaves single numbers to chance, 7e-5 at most: their root mean square was 2e-6, and 5e-5 where the
    momentum is .94 instead of .95.
    """
    if not all(math.isfinite(number) for number in one[0] + one[1]):
        return False
    difference = one[2] - other[2]  # of values near 1, moved by about 1e-3 a step
    if strategy["precision"] != "fp32":
        return float(difference.abs().max()) <= 1e-2
    if optimizer != "muon":
        return float(difference.abs().max()) <= 1e-5
    if strategy["compile"]:
        return float(difference.square().mean().sqrt()) <= 1e-5
    return float(difference.abs().max()) <= 5e-5
