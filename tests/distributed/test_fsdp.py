"""FSDP2 on two ranks takes the steps of plain torch in one process, holds half, and resumes on any number of ranks."""

import functools
import math

import pytest
import tiny
import torch
from tiny import Potential, Transformer

from equimodels.models.diffusion_transformer import DiffusionTransformerConfig
from equimodels.models.gaunt_potential import GauntPotentialConfig
from jobs.strategy.fsdp import FsdpEngine
from jobs.world import World

pytestmark = pytest.mark.integration
STEPS = 20
ROOT, BLOCKS = {"kind": "fsdp"}, {"kind": "fsdp", "units": "blocks"}
TWO_PHASE = {**BLOCKS, "force_gradient": "two_phase"}
TASKS = {"potential": Potential, "transformer": Transformer}
LARGER = {
    "potential": GauntPotentialConfig(lmax=2, channels=16, layers=2, many_body_order=2, radial_hidden=16),
    "transformer": DiffusionTransformerConfig(dim=32, layers=3, heads=2, patch=2, tap=1, time_features=16),
}
CASES = [
    pytest.param("potential", ROOT, id="potential, root"),
    pytest.param("potential", TWO_PHASE, id="potential, blocks, two-phase"),
    pytest.param("transformer", ROOT, id="transformer, root"),
    pytest.param("transformer", BLOCKS, id="transformer, blocks"),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other on a busy machine are slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def task(name, larger=False):
    return TASKS[name](LARGER[name]) if larger else TASKS[name]()


def trained(world, name, strategy, steps=STEPS):
    """The state after some steps, the losses and the norms."""
    made = tiny.engine(task(name), world, tiny.spec(strategy))
    losses, norms = tiny.train(made, task(name), world, range(steps))
    return tiny.state(made, world), losses, norms


@functools.cache
def alone(name, steps=STEPS):
    """What plain torch makes of it, on one rank with all the micro-batches."""
    return trained(World(), name, {"kind": "ddp"}, steps)


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_twenty_steps_are_those_of_one_process(two_ranks, name, strategy):
    (state, losses, norms), again = two_ranks.call(trained, name, strategy)
    expected = alone(name)
    for found, wanted in ((losses, expected[1]), (norms, expected[2])):
        assert found == pytest.approx(wanted, rel=1e-5)
    assert losses == again[1]
    assert norms == again[2]
    settled = {"value": {n: v for n, v in state["value"].items() if not n.endswith("qkv.bias")}}
    assert tiny.difference(settled, expected[0]) <= 1e-6
    if name == "transformer":
        assert without_keys(state) == pytest.approx(without_keys(expected[0]), abs=1e-6)


def without_keys(state):
    """Biases of queries and values. That of a key moves all logits alike: its gradient is rounding, its path noise."""
    found = []
    for name, values in state["value"].items():
        if name.endswith("qkv.bias"):
            query, _, value = values.chunk(3)
            found += [*query.tolist(), *value.tolist()]
    return found


def resumed(world, name, strategy, saved, steps, counters):
    made = tiny.engine(task(name), world, tiny.spec(strategy), seed=1)
    made.load(tiny.finder(saved), counters)
    before = tiny.state(made, world)
    losses, _ = tiny.train(made, task(name), world, steps)
    return before, tiny.state(made, world), losses, made.counters()


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_a_run_goes_on_with_one_rank_and_again_with_two(two_ranks, name, strategy):
    whole = two_ranks.call(trained, name, strategy, 9)[0]
    first = two_ranks.call(trained, name, strategy, 3)[0]
    second = resumed(World(), name, strategy, first[0], range(3, 6), {"steps": 3})
    third = two_ranks.call(resumed, name, strategy, second[1], range(6, 9), second[3])[0]
    for saved, found in ((first[0], second[0]), (second[1], third[0])):
        assert saved.keys() == found.keys()
        for slot, tensors in saved.items():
            assert all(torch.equal(tensor, found[slot][n]) for n, tensor in tensors.items())
    assert first[1] + second[2] + third[2] == pytest.approx(whole[1], rel=1e-5)
    assert third[3] == {"steps": 9}


def test_a_loaded_run_is_the_unbroken_one_bit_by_bit(two_ranks):
    whole = two_ranks.call(trained, "potential", TWO_PHASE, 6)[0]
    half = two_ranks.call(trained, "potential", TWO_PHASE, 3)[0]
    other = two_ranks.call(resumed, "potential", TWO_PHASE, half[0], range(3, 6), {"steps": 3})[0]
    assert half[1] + other[2] == whole[1]
    for slot, tensors in whole[0].items():
        assert all(torch.equal(tensor, other[1][slot][n]) for n, tensor in tensors.items())


def held(world, name, strategy):
    """Numbers of the parameters, and of the optimizer's state, that this rank keeps in memory between steps."""
    made = tiny.engine(task(name, larger=True), world, tiny.spec(strategy))
    tiny.train(made, task(name, larger=True), world, range(1))
    inner = getattr(made, "_engine", made)
    kept = {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in locals_of(inner.module)}
    moments = [p.values.numel() for pieces in made.moments().values() for p in pieces.values()]
    return sum(kept.values()) // 4, sum(moments)


def locals_of(module):
    return [p.to_local() if hasattr(p, "to_local") else p for p in module.parameters()]


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_a_rank_holds_half_of_parameters_and_moments(two_ranks, name, strategy):
    parameters, moments = held(World(), name, {"kind": "ddp"})
    for held_parameters, held_moments in two_ranks.call(held, name, strategy):
        assert held_parameters <= 0.6 * parameters
        assert held_moments <= 0.55 * moments


def refused_steps(world, strategy):
    """Values before and after a step above the limit, one with a loss that is no number, and a good one."""
    made, wanted = tiny.engine(Potential(), world, tiny.spec(strategy)), Potential()
    found = [tiny.state(made, world)]
    _, norms = tiny.train(made, wanted, world, [0], limit=1e-9)
    found.append(tiny.state(made, world))
    made.backward(wanted.loss(made.forward, 0, world.rank) * (math.nan if world.leads else 1.0))
    norms.append(made.step(1e-3))
    found.append(tiny.state(made, world))
    norms += tiny.train(made, wanted, world, [0])[1]
    found.append(tiny.state(made, world))
    return found, norms, made.counters()


@pytest.mark.parametrize("strategy", [ROOT, TWO_PHASE])
def test_a_step_above_the_limit_or_not_finite_changes_nothing(two_ranks, strategy):
    found, norms, counters = two_ranks.call(refused_steps, strategy)[0]
    assert tiny.difference(found[0], found[1]) == tiny.difference(found[0], found[2]) == 0
    assert tiny.difference(found[0], found[3]) > 0
    assert math.isnan(norms[1])
    assert norms[0] == norms[2]
    assert counters == {"steps": 1}


def evaluated(world, strategy):
    """Losses in eval mode with the first values, with the trained ones, with the first installed, with the trained."""
    made, wanted = tiny.engine(Potential(), world, tiny.spec(strategy)), Potential()

    def loss():
        made.module.eval()
        with torch.no_grad():
            found = wanted.loss(made.forward, 0, 0).item()
        made.module.train()
        return found

    def copied():
        return {name: type(piece)(piece.start, piece.values.clone()) for name, piece in made.values().items()}

    first, losses = copied(), [loss()]
    tiny.train(made, wanted, world, range(2))
    losses.append(loss())
    second = copied()
    made.install(first)
    losses.append(loss())
    made.install(second)
    losses.append(loss())
    return losses


@pytest.mark.parametrize("strategy", [ROOT, TWO_PHASE])
def test_installed_values_are_those_that_are_evaluated(two_ranks, strategy):
    for first, trained_loss, installed, back in two_ranks.call(evaluated, strategy):
        assert first == installed != trained_loss
        assert back == trained_loss


FOUR = {"data": {"uri": "datasets/none@1", "batch": {"samples": 8}}}


def micro_batches(made, world):
    wanted = Potential()
    for step in range(3):
        for n in range(4 // world.size):
            made.backward(
                wanted.loss(made.forward, step, world.rank * (4 // world.size) + n), last=n == 4 // world.size - 1
            )
        made.step(1e-3)


def four(world, strategy):
    """Three steps of four micro-batches, shared by the ranks."""
    wanted = tiny.spec({**strategy, "accumulate": 2}, **FOUR)
    made = tiny.engine(Potential(), world, wanted)
    micro_batches(made, world)
    return tiny.state(made, world)


@pytest.mark.parametrize("strategy", [ROOT, TWO_PHASE])
def test_micro_batches_accumulate(two_ranks, strategy):
    found = two_ranks.call(four, strategy)[0]
    assert tiny.difference(found, four(World(), {"kind": "ddp"})) <= 1e-6


def half_precision(world, strategy):
    made = tiny.engine(Potential(), world, tiny.spec({**strategy, "precision": "bf16"}))
    losses, _ = tiny.train(made, Potential(), world, range(5))
    return losses, {piece.values.dtype for piece in made.values().values()}


@pytest.mark.parametrize("strategy", [ROOT, TWO_PHASE])
def test_bf16_keeps_masters_in_fp32_and_learns_alike(two_ranks, strategy):
    losses, dtypes = two_ranks.call(half_precision, strategy)[0]
    assert dtypes == {torch.float32}
    assert losses == pytest.approx(alone("potential", 5)[1], rel=0.05)


def test_in_one_process_nothing_is_divided():
    made = tiny.engine(Potential(), World(), tiny.spec(ROOT))
    assert isinstance(made, FsdpEngine)
    assert not made._units
