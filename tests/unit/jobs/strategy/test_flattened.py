"""Laid flat, parameters keep their names and values, and modules see them in their shape."""

import torch
from torch import nn

from jobs.strategy.flattened import lay_flat


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.inner = nn.Linear(4, 3)

    def forward(self, x):
        return self.scale * self.inner(x)


def test_only_what_cannot_be_shared_evenly_is_laid_flat():
    module = Scaled()
    names, x = [name for name, _ in module.named_parameters()], torch.randn(5, 4)
    expected = module(x)
    module.inner.bias.requires_grad_(False)
    lay_flat(module, 2)
    assert [name for name, _ in module.named_parameters()] == names
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "scale": (1,),
        "inner.weight": (12,),
        "inner.bias": (3,),
    }
    assert module.scale.shape == ()
    assert module.inner.weight.shape == (3, 4)
    assert not module._modules["inner"]._parameters["bias"].requires_grad
    assert torch.equal(module(x), expected)
    assert isinstance(module, Scaled)
    assert isinstance(module.inner, nn.Linear)


def test_gradients_reach_the_flat_parameters():
    one, other = Scaled(), Scaled()
    other.load_state_dict(one.state_dict())
    lay_flat(other, 2)
    x = torch.randn(5, 4)
    one(x).square().sum().backward()
    other(x).square().sum().backward()
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad.view(-1), q.grad)


def test_even_rows_and_shared_parameters_stay_as_they_are():
    module = nn.Sequential(nn.Linear(2, 4), nn.Linear(3, 3), nn.Linear(3, 3))
    module[2].weight = module[1].weight
    lay_flat(module, 2)
    assert type(module[0]) is nn.Linear
    assert module[1]._parameters["weight"] is module[2]._parameters["weight"]
    assert module[1]._parameters["weight"].shape == (3, 3)
