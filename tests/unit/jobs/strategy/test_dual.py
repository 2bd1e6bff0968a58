"""Dual numbers cross borders as pairs; the faster rules give what torch's own give."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.testing import assert_close

from jobs.strategy.dual import Pair, carried, dual_numbers, join, pairs_at_hooks, split
from jobs.strategy.dual_rules import _RULES, WithoutZeros, unpacked


class Named(NamedTuple):
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Held:
    tensor: Tensor
    label: str


@pytest.fixture
def duals():
    with dual_numbers():
        yield


def dual(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    value, rate = (torch.randn(*shape, dtype=torch.float64, generator=source) for _ in range(2))
    return forward_ad.make_dual(value, rate)


@pytest.mark.usefixtures("duals")
def test_a_tree_is_split_and_joined_again():
    x, plain = dual(3), torch.ones(2)
    tree = ({"a": [x, plain], "b": "text"}, Named(x, plain), Held(x, "label"))
    pairs = split(tree)
    assert isinstance(pairs[0]["a"][0], Pair)
    assert isinstance(pairs[1].first, Pair)
    assert isinstance(pairs[2].tensor, Pair)
    assert pairs[0]["a"][1] is plain
    back = join(pairs)
    for found in (back[0]["a"][0], back[1].first, back[2].tensor):
        for one, other in zip(unpacked(found), unpacked(x), strict=True):
            assert torch.equal(one, other)


def test_what_holds_no_dual_number_stays_the_same_object():
    tree = ({"a": [torch.ones(2)]}, Named(torch.ones(1), torch.ones(1)), Held(torch.ones(1), "label"), 3)
    assert split(tree) is tree
    assert join(tree) is tree


def layer():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2)).double()


def test_a_carried_function_gives_value_and_rate_and_opens_a_level_of_its_own():
    x, v = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    found = carried(layer().forward)(Pair(x, v))
    value, rate = torch.autograd.functional.jvp(layer(), x, v)
    assert_close(found.value, value)
    assert_close(found.rate, rate)
    assert torch.equal(carried(layer().forward)(x), layer()(x))


def test_hooks_see_pairs_and_callers_dual_numbers():
    block, seen = layer(), []
    block.forward = carried(block.forward)
    block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block.register_forward_hook(lambda _, inputs, output: seen.append(output))
    pairs_at_hooks(block)
    with dual_numbers():
        x = dual(5, 3)
        out = unpacked(block(x))
        expected = unpacked(layer()(x))
    assert [type(value) for value in seen] == [Pair, Pair]
    for one, other in zip(out, expected, strict=True):
        assert_close(one, other)
    block(torch.ones(5, 3, dtype=torch.float64))
    assert [type(value) for value in seen[2:]] == [Tensor, Tensor]


def of_matrices(rule):
    return rule.__name__ in ("matmul", "__matmul__", "bmm")


def operand(rule, kind, seed):
    if kind == "number":
        return 1.5
    made = dual(*((2, 3, 3) if of_matrices(rule) or kind == "wider" else (3, 3)), seed=seed)
    return unpacked(made)[0] if kind == "constant" else made


CASES = [
    pytest.param(rule, first, second, id=f"{rule.__name__}-{first}-{second}")
    for rule in _RULES
    for first in ("dual", "constant")
    for second in ("dual", "constant", "number", "wider")
    if not (of_matrices(rule) and second == "number")
]


@pytest.mark.usefixtures("duals")
@pytest.mark.parametrize(("rule", "first", "second"), CASES)
def test_rules_give_what_torch_gives(rule, first, second):
    left, right = operand(rule, first, 1), operand(rule, second, 2)
    found = rule(left, right)
    with torch._C.DisableTorchFunction():
        expected = rule(left, right)
    for one, other in zip(unpacked(found), unpacked(expected), strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_the_rules_leave_other_operations_alone():
    with WithoutZeros():
        assert torch.equal(torch.ones(2) * 2, torch.full((2,), 2.0))
