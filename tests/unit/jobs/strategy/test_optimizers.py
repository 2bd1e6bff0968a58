"""Muon for matrices and AdamW for the rest, as one optimizer."""

import pytest
import torch
from torch import nn
from torch.optim._muon import _zeropower_via_newtonschulz

from jobs.spec.optimizer import AdamW, AdamWParams, Muon, MuonParams
from jobs.strategy.optimizers import build_optimizer, fresh_state, moments_of

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 4)
        self.stack = nn.Parameter(torch.randn(3, 4, 4))


def with_gradients(net):
    torch.manual_seed(1)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    return net


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_newton_schulz_keeps_the_singular_vectors_and_moves_the_singular_values_to_one(shape):
    """The slow twin: the polynomial of the iteration, put on the singular values of an SVD, in float64."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    a, b, c = COEFFICIENTS
    left, values, right = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    found = _zeropower_via_newtonschulz(matrix, COEFFICIENTS, 5, 1e-7).double()
    # The iteration runs in bfloat16, of 8 bits.
    torch.testing.assert_close(found, left @ values.diag() @ right, atol=0.05, rtol=0)
    assert ((values > 0.6) & (values < 1.3)).all()


def test_matrices_are_moved_by_muon_and_all_else_by_adamw():
    settings = MuonParams(lr=0.01, weight_decay=0.1, momentum=0.9)
    net, twin = with_gradients(Net()), with_gradients(Net())
    build_optimizer(net.parameters(), Muon(name="muon", params=settings)).step()
    adamw = torch.optim.AdamW([twin.first.bias, twin.stack], lr=0.01, weight_decay=0.1, betas=(0.9, 0.999))
    adamw.step()
    assert torch.equal(net.first.bias, twin.first.bias)
    assert torch.equal(net.stack, twin.stack)
    gradient = twin.first.weight.grad
    momentum = 0.1 * gradient
    update = _zeropower_via_newtonschulz(0.1 * gradient + 0.9 * momentum, COEFFICIENTS, 5, 1e-7)
    scale = 0.2 * 6**0.5  # of the larger side: the root mean square of an update of AdamW
    expected = twin.first.weight * (1 - 0.01 * 0.1) - 0.01 * scale * update
    torch.testing.assert_close(net.first.weight, expected, atol=1e-4, rtol=0)


def test_both_kinds_take_the_same_learning_rate():
    net = with_gradients(Net())
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = build_optimizer(net.parameters(), Muon(name="muon"))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("settings", [AdamW(params=AdamWParams(lr=0.1)), Muon(name="muon")])
def test_a_fresh_state_has_the_form_of_one_that_was_used(settings):
    net = with_gradients(Net())
    optimizer = build_optimizer(net.parameters(), settings)
    optimizer.step()
    for group in optimizer.param_groups:
        for p in group["params"]:
            used, fresh = optimizer.state[p], fresh_state(group, p, 1)
            assert used.keys() == fresh.keys()
            assert set(moments_of(group)) == used.keys() - {"step"}
            for name, value in used.items():
                assert fresh[name].shape == value.shape
                assert fresh[name].dtype == value.dtype
            assert "step" not in used or torch.equal(used["step"], fresh["step"])


def test_a_module_of_matrices_only_has_a_muon_alone():
    net = nn.Linear(3, 3, bias=False)
    assert len(build_optimizer(net.parameters(), Muon(name="muon")).param_groups) == 1
