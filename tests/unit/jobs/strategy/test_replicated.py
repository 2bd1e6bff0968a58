"""The engine of one process: micro-batches are averaged, bad steps change nothing, the state comes back whole."""

import math

import pytest
import torch
from torch import nn

from cluster.errors import UserError
from jobs.spec.train import TrainSpec
from jobs.strategy.build import make_engine
from jobs.strategy.replicated import ReplicatedEngine
from jobs.world import World

CPU = torch.device("cpu")


def spec(accumulate=1, optimizer=None, **strategy):
    return TrainSpec.model_validate(
        {
            "spec_version": 1,
            "kind": "train",
            "name": "tiny",
            "data": {"uri": "datasets/none@1", "batch": {"samples": 4}},
            "model": {"name": "none"},
            "objective": {"name": "none"},
            "optimizer": optimizer or {},
            "strategy": {"kind": "single", "accumulate": accumulate, **strategy},
            "resources": {"workers": 1},
        }
    )


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def engine(seed=0, **settings):
    return make_engine(Net(seed).train(), spec(**settings), World(), CPU)


def batch(seed):
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))


def step(made, seed=0, factor=1.0, limit=math.inf):
    made.backward((made.forward(batch(seed)) - 1).square().mean() * factor)
    return made.step(0.01, limit=limit)


def state(made):
    slots = {"value": made.values(), **made.moments()}
    return {(slot, name): p.values.clone() for slot, of in slots.items() for name, p in of.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_before_the_first_step_there_are_no_moments():
    made = engine()
    assert made.moments() == {}
    assert made.counters() == {"steps": 0}
    assert set(made.values()) == set(made.shapes()) == {name for name, _ in Net().named_parameters()}


@pytest.mark.parametrize("optimizer", [{"name": "adamw"}, {"name": "muon"}])
def test_micro_batches_are_averaged(optimizer):
    whole, parts = engine(optimizer=optimizer), engine(accumulate=2, optimizer=optimizer)
    x = batch(0)
    whole.backward(whole.forward(x).square().mean())
    for half, last in ((x[:2], False), (x[2:], True)):
        parts.backward(parts.forward(half).square().mean(), last=last)
    assert whole.step(0.01) == pytest.approx(parts.step(0.01), rel=1e-5)
    for name, piece in whole.values().items():
        torch.testing.assert_close(piece.values, parts.values()[name].values, atol=1e-4, rtol=0)


def test_a_micro_batch_too_few_is_noticed():
    made = engine(accumulate=2)
    with pytest.raises(ValueError, match="micro-batch 1 of 2"):
        made.backward(made.forward(batch(0)).sum(), last=True)


@pytest.mark.parametrize(("factor", "limit"), [(math.nan, math.inf), (math.inf, math.inf), (1.0, 1e-9)])
def test_a_step_that_is_left_out_changes_nothing_and_clears_the_gradients(factor, limit):
    made, twin = engine(), engine()
    for one in (made, twin):
        step(one, 0)
    before = state(made)
    norm = step(made, 1, factor, limit)
    assert not math.isfinite(norm) or norm > limit
    assert same(state(made), before)
    assert made.counters() == {"steps": 1}
    assert step(made, 2) == step(twin, 2)
    assert same(state(made), state(twin))


def test_gradients_are_clipped_and_the_norm_is_the_one_before():
    made = engine(gradient_clipping=1e-3)
    norm = step(made)
    assert norm > 1e-3
    # The first moment of AdamW after one step is a tenth of the clipped gradient.
    clipped = torch.cat([piece.values for piece in made.moments()["exp_avg"].values()]).norm() * 10
    assert clipped.item() == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("optimizer", [{"name": "adamw"}, {"name": "muon"}])
def test_a_state_goes_to_another_engine_to_the_bit(optimizer):
    made, other = engine(optimizer=optimizer), engine(seed=1, optimizer=optimizer)
    for n in range(3):
        step(made, n)
    step(other)
    saved = state(made)
    other.load(lambda slot, name, start, stop: saved[slot, name][start:stop], made.counters())
    assert same(state(other), saved)
    for n in range(3, 5):
        assert step(made, n) == step(other, n)
    assert same(state(other), state(made))


def test_a_state_from_before_the_first_step_has_no_moments():
    made, other = engine(), engine(seed=1)
    step(other)
    saved = state(made)
    other.load(lambda slot, name, start, stop: saved[slot, name][start:stop], {"steps": 0})
    assert other.moments() == {}
    assert same(state(other), saved)


def test_values_are_views_that_install_writes_to():
    made, other = engine(), engine(seed=1)
    made.install(other.values())
    assert torch.equal(made.forward(batch(0)), other.forward(batch(0)))


def test_muon_has_momenta_of_matrices_and_moments_of_all_else():
    made = engine(optimizer={"name": "muon"})
    step(made)
    matrices = {name for name, shape in made.shapes().items() if len(shape) == 2}
    assert set(made.moments()["momentum_buffer"]) == matrices
    assert set(made.moments()["exp_avg"]) == set(made.shapes()) - matrices


def test_bf16_computes_in_it_and_keeps_fp32():
    made = engine(precision="bf16")
    assert made.forward(batch(0)).dtype == torch.bfloat16
    step(made)
    assert {piece.values.dtype for piece in made.values().values()} == {torch.float32}


def test_what_is_refused_is_refused_by_make_engine_too():
    with pytest.raises(UserError, match=r"strategy.units: single does not gather"):
        engine(units="blocks")


def test_one_process_needs_no_other_engine_for_ddp():
    assert isinstance(make_engine(Net(), spec(), World(), CPU), ReplicatedEngine)


def test_what_the_model_cannot_do_is_refused_by_make_engine_too():
    with pytest.raises(UserError, match=r"strategy.recompute: Linear has no list of blocks"):
        make_engine(nn.Linear(2, 2), spec(recompute=True), World(), CPU)
