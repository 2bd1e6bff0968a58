"""Two phases under every strategy; and the proof that with blocks as units at most two of them are whole at a time."""

import pytest
import tiny
import torch
from tiny import Potential
from torch.distributed.fsdp import FSDPModule

from equimodels.models.gaunt_potential import GauntPotentialConfig
from jobs.strategy.recompute import blocks
from jobs.world import World

pytestmark = pytest.mark.integration
STEPS = 20
DEEP = GauntPotentialConfig(lmax=1, channels=4, layers=5, many_body_order=2, radial_hidden=8, readout_hidden=4)
FSDP_BLOCKS = {"kind": "fsdp", "units": "blocks", "force_gradient": "two_phase"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other on a busy machine are slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(world, strategy):
    made = tiny.engine(Potential(), world, tiny.spec(strategy))
    losses, norms = tiny.train(made, Potential(), world, range(STEPS))
    return tiny.state(made, world), losses, norms


@pytest.fixture(scope="module")
def expected():
    """Double backward in one process."""
    return trained(World(), {"kind": "ddp"})


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "ddp"},
        {"kind": "deepspeed", "zero_stage": 1},
        {"kind": "deepspeed", "zero_stage": 2},
        {"kind": "fsdp"},
        FSDP_BLOCKS,
        {**FSDP_BLOCKS, "recompute": True},
    ],
    ids=["ddp", "ZeRO-1", "ZeRO-2", "fsdp root", "fsdp blocks", "fsdp blocks, recomputed"],
)
def test_twenty_steps_in_two_phases_are_those_of_double_backward_in_one_process(two_ranks, expected, strategy):
    state, losses, norms = two_ranks.call(trained, {**strategy, "force_gradient": "two_phase"})[0]
    assert tiny.difference(state, expected[0]) <= 1e-6
    assert losses == pytest.approx(expected[1], rel=1e-5)
    assert norms == pytest.approx(expected[2], rel=1e-5)


def watched(world, strategy):
    """How many blocks were whole inside and after each block's forward, and at each gradient of its outputs."""
    made = tiny.engine(Potential(DEEP), world, tiny.spec(strategy))
    layers, seen = blocks(made.module), {"forward": [], "after": [], "backward": []}
    # FSDP's own view, of the memory behind what it gathers into: also right for what is prefetched.
    groups = [FSDPModule._get_fsdp_state(layer)._fsdp_param_group for layer in layers if isinstance(layer, FSDPModule)]
    if not groups:
        groups = [FSDPModule._get_fsdp_state(made.module)._fsdp_param_group]

    def whole():
        memory = [
            any(out.untyped_storage().nbytes() for p in group.fsdp_params for out in p.all_gather_outputs)
            for group in groups
        ]
        return sum(memory) if len(groups) > 1 else len(layers) * sum(memory)

    for layer in layers:
        inner = layer.forward

        def forward(*inputs, inner=inner, **named):
            seen["forward"].append(whole())
            out = inner(*inputs, **named)
            for tensor in out if isinstance(out, tuple) else (out,):
                if tensor.requires_grad:
                    tensor.grad_fn.register_hook(lambda *_: seen["backward"].append(whole()))
            return out

        layer.forward = forward
        layer.register_forward_hook(lambda *_: seen["after"].append(whole()))
    tiny.train(made, Potential(DEEP), world, range(1))
    seen["rest"] = [whole()]
    return {when: (len(counts), max(counts, default=0)) for when, counts in seen.items()}


def test_at_most_two_blocks_are_whole_forward_and_backward(two_ranks):
    layers = DEEP.layers
    for seen in two_ranks.call(watched, FSDP_BLOCKS):
        assert seen["forward"] == (2 * layers, 1)  # of both phases
        assert seen["after"] == (2 * layers, 0)
        assert seen["backward"][0] >= 2 * layers
        assert 1 <= seen["backward"][1] <= 2  # one is gathered ahead
        assert seen["rest"] == (1, 0)


@pytest.mark.parametrize("force_gradient", ["two_phase", "double_backward"])
def test_with_one_unit_all_blocks_are_whole(two_ranks, force_gradient):
    """The negative control."""
    for seen in two_ranks.call(watched, {"kind": "fsdp", "force_gradient": force_gradient}):
        assert seen["forward"][1] == seen["backward"][1] == DEEP.layers
        assert seen["rest"] == (1, 0)


def plain_blocks(world):
    """Blocks with double backward, which is refused: the error that the user is spared."""
    from jobs.strategy.fsdp import FsdpEngine

    made = FsdpEngine(Potential().model(), tiny.spec({"kind": "fsdp", "units": "blocks"}), world, tiny.CPU)
    try:
        tiny.train(made, Potential(), world, range(1))
    except RuntimeError as error:
        return str(error)
    return None


def test_without_two_phases_blocks_still_cannot_train_forces(two_ranks):
    """When this fails, torch has learnt it: then nothing need be refused any more."""
    assert all(two_ranks.call(plain_blocks))
    two_ranks.close()  # FSDP is in the middle of a step
