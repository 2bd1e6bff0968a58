"""What only the model tells is refused too, and before anything starts."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cluster.errors import UserError
from cluster.store import open_store
from jobs.build import resolve
from jobs.spec.strategy import Strategy
from jobs.strategy.model_refusals import concerns_model, model_refusals

sys.path.insert(0, str(Path(__file__).parents[3] / "distributed"))  # pytest's importlib mode leaves the path alone
import small_runs
import tiny

ZERO3 = {"kind": "deepspeed", "zero_stage": 3}
BLOCKS = {"kind": "fsdp", "units": "blocks", "force_gradient": "two_phase"}


class Hollow(nn.Linear):
    """With a parameter without numbers, and no blocks."""

    def __init__(self):
        super().__init__(2, 2)
        self.none = nn.Parameter(torch.empty(0, 3))


@pytest.mark.parametrize(
    ("strategy", "path", "nearest"),
    [
        ({"kind": "ddp", "compile": True}, "strategy.compile", "compile: false"),
        ({"kind": "ddp", "recompute": True}, "strategy.recompute", "recompute: false"),
        ({"kind": "fsdp", "units": "blocks"}, "strategy.units", "units: root"),
        (ZERO3, "strategy.zero_stage", "zero_stage: 2"),
    ],
)
def test_what_a_model_cannot_do_is_refused_with_the_nearest_that_it_can(strategy, path, nearest):
    wanted = tiny.spec(strategy)
    assert concerns_model(wanted.strategy)
    (found,) = model_refusals(wanted, Hollow())
    assert found.path == path
    assert nearest in found.nearest
    assert model_refusals(wanted, tiny.Transformer().model()) == []


def test_a_model_is_built_only_where_it_matters():
    assert not any(concerns_model(Strategy(**how)) for how in ({}, {"kind": "ddp"}, {"kind": "fsdp"}))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(small_runs.publish(tmp_path_factory.mktemp("store")))


def test_the_driver_refuses_what_workers_would_die_of(store):
    layers = {"model.params.layers": 1}
    with pytest.raises(UserError, match=r"strategy.zero_stage: .* without numbers, and the model has readout_linear"):
        resolve(small_runs.spec("potential", ZERO3, **layers), store)
    resolve(small_runs.spec("potential", ZERO3), store)


def test_looking_at_the_model_draws_no_number_that_counts(store):
    before = torch.get_rng_state()
    resolve(small_runs.spec("potential", BLOCKS), store)
    assert torch.equal(torch.get_rng_state(), before)
