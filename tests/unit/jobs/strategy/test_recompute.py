"""Blocks that are computed again: the same gradients, also twice differentiated, and fewer tensors kept."""

import torch
from torch import nn

from jobs.strategy.recompute import blocks, recompute


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        for _ in range(4):
            x = torch.tanh(self.linear(x)) * self.scale
        return x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(8, 8))
        self.layers = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.inner(x).sum()


def forces_and_gradients(net):
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    energy = net(x)
    (force,) = torch.autograd.grad(energy, x, create_graph=True)
    (energy + force.square().sum()).backward()
    return force.detach(), {name: p.grad for name, p in net.named_parameters()}


def test_blocks_are_the_entries_of_lists():
    net = Net()
    assert blocks(net) == list(net.layers)
    assert blocks(nn.Linear(2, 2)) == []


def test_a_second_derivative_is_the_same():
    plain, forgetful = Net(), Net()
    recompute(forgetful)
    force, gradients = forces_and_gradients(plain)
    same_force, found = forces_and_gradients(forgetful)
    torch.testing.assert_close(same_force, force)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient)
    assert all(layer.calls > 1 for layer in forgetful.layers)


def test_fewer_numbers_are_kept_for_the_backward_pass():
    kept = []
    for net in (Net(), Net()):
        if kept:
            recompute(net)
        total = 0

        def count(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            net(torch.randn(64, 8))
        kept.append(total)
    assert kept[1] < 0.4 * kept[0]


def test_evaluation_computes_nothing_twice():
    net = Net().eval()
    recompute(net)
    x = torch.randn(5, 8, requires_grad=True)
    net(x).backward()
    assert [layer.calls for layer in net.layers] == [1, 1, 1]
