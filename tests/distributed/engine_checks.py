"""What every engine owes the loop, as functions that run on ranks."""

import math
from dataclasses import replace

import tiny
import torch
from tiny import Potential, Transformer

from jobs.strategy import build

TASKS = {
    "potential": Potential,
    "potential of one layer": lambda: Potential(replace(tiny.POTENTIAL, layers=1)),  # a parameter without numbers
    "transformer": Transformer,
}


def trained(world, name, strategy, steps):
    """The whole state, the losses and the norms after some steps."""
    made = tiny.engine(TASKS[name](), world, tiny.spec(strategy))
    losses, norms = tiny.train(made, TASKS[name](), world, range(steps))
    return tiny.state(made, world), losses, norms


def offloaded(world, name, strategy, steps):
    """Steps with the optimizer's state elsewhere, then loaded anew: both states. Without GPUs it is refused: not here.

    DeepSpeed goes its other way here, too: only the copies between two memories are missing.
    """
    insist, build.insist = build.insist, lambda refusals: None
    try:
        how = {**strategy, "offload": "cpu"}
        state, losses, norms = trained(world, name, how, steps)
        loaded, *_ = resumed(world, name, how, state, steps, 1)
    finally:
        build.insist = insist
    return state, losses, norms, loaded


def resumed(world, name, strategy, saved, taken, steps):
    """From a saved state after `taken` steps, `steps` more: the state as it was loaded, the one after, the losses.

    The engine has taken steps of its own before, and from other weights: nothing of them may be left.
    """
    task = TASKS[name]()
    made = tiny.engine(task, world, tiny.spec(strategy), seed=1)
    tiny.train(made, task, world, range(1))
    made.load(tiny.finder(saved), {"steps": taken})
    loaded = tiny.state(made, world)
    assert made.counters() == {"steps": taken}
    losses, _ = tiny.train(made, task, world, range(taken, taken + steps))
    return loaded, tiny.state(made, world), losses


def norms_computed(world, name, strategy):
    """How often a step computes the norm of the gradients, and how long the gradients are where they are used."""
    import deepspeed.runtime.engine as engine

    made, task, calls, lengths = tiny.engine(TASKS[name](), world, tiny.spec(strategy)), TASKS[name](), [], []
    usual, stepped = engine.DeepSpeedEngine.clip_fp32_gradients, engine.DeepSpeedEngine._take_model_step

    def clip(self):
        calls.append(True)
        return usual(self)

    def step(self, *arguments, **options):
        gradients = [p.grad.double().square().sum() for p in made.module.parameters() if p.grad is not None]
        lengths.append(float(torch.stack(gradients).sum().sqrt()))
        return stepped(self, *arguments, **options)

    engine.DeepSpeedEngine.clip_fp32_gradients, engine.DeepSpeedEngine._take_model_step = clip, step
    try:
        norms = tiny.train(made, task, world, range(2))[1]
    finally:
        engine.DeepSpeedEngine.clip_fp32_gradients, engine.DeepSpeedEngine._take_model_step = usual, stepped
    return len(calls), lengths, norms


def numbers_read(world, name, strategy, saved, taken):
    """How many numbers of a saved state this rank asks for, and the state that it has then."""
    made, asked = tiny.engine(TASKS[name](), world, tiny.spec(strategy), seed=1), []

    def find(slot, parameter, start, stop):
        asked.append(stop - start)
        return tiny.finder(saved)(slot, parameter, start, stop)

    made.load(find, {"steps": taken})
    return sum(asked), tiny.state(made, world)


def without_bad_steps(world, name, strategy):
    """States before and after a step that is left out, for each reason; and of a run that goes on after them."""
    task = TASKS[name]()
    made = tiny.engine(task, world, tiny.spec(strategy))
    tiny.train(made, task, world, range(2))
    found = []
    for spoil, limit in ((math.nan, math.inf), (math.inf, math.inf), (1.0, 1e-12)):
        before = tiny.state(made, world)
        (norm,) = tiny.train(made, Spoilt(task, spoil), world, range(7, 8), limit=limit)[1]
        found.append((before, tiny.state(made, world), norm, made.counters()["steps"]))
    tiny.train(made, task, world, range(2, 4))
    return found, tiny.state(made, world), made.counters()


class Spoilt:
    """A task whose loss is multiplied by something, on one micro-batch of one rank."""

    def __init__(self, task, factor):
        self._task, self._factor = task, factor

    def loss(self, forward, step, micro_batch):
        loss = self._task.loss(forward, step, micro_batch)
        return loss * self._factor if micro_batch == 1 else loss


def installed(world, name, strategy):
    """The loss of a model with other weights put in, evaluated; and the state when the old ones are back."""
    task = TASKS[name]()
    made, other = (tiny.engine(task, world, tiny.spec(strategy), seed=seed) for seed in (0, 1))
    tiny.train(made, task, world, range(2))
    before = tiny.state(made, world)
    held = {n: type(p)(p.start, p.values.clone()) for n, p in made.values().items()}
    made.install({n: type(p)(p.start, p.values.clone()) for n, p in other.values().items()})
    losses = [evaluated(one, task) for one in (made, other)]
    made.install(held)
    after = tiny.state(made, world)
    tiny.train(made, task, world, range(2, 4))
    return losses, before, after, tiny.state(made, world)


def evaluated(made, task):
    """The loss of one batch in evaluation mode."""
    made.module.eval()
    with torch.no_grad():
        loss = task.loss(made.forward, 0, 0).item()
    made.module.train()
    return loss


def held(world, name, strategy):
    """Bytes of this rank: its moments, and all storage that parameters and masters take between steps."""
    task = TASKS[name]()
    made = tiny.engine(task, world, tiny.spec(strategy))
    tiny.train(made, task, world, range(1))
    tensors = [p.data for p in made.module.parameters()] + [piece.values for piece in made.values().values()]
    tensors += [p.ds_tensor.data for p in made.module.parameters() if hasattr(p, "ds_tensor")]
    moments = [piece.values for of in made.moments().values() for piece in of.values()]
    return storage(moments), storage(tensors)


def storage(tensors):
    """Bytes of the storages of tensors, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def same_bits(one, other):
    """Whether two states are equal in every bit."""
    return one.keys() == other.keys() and all(
        one[slot].keys() == other[slot].keys() and all(torch.equal(v, other[slot][n]) for n, v in one[slot].items())
        for slot in one
    )
