"""The pieces of the block against slow twins, and their derivatives against differences."""

import math

import pytest
import torch
from torch.testing import assert_close

from equimodels.embeddings.time import FourierTime
from equimodels.errors import SettingError
from equimodels.models.transformer_block import EPSILON, Attention, Block, RMSNorm, SwiGLU


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention_twin(layer, x):
    """One image, one head, one query at a time."""
    b, n, d = x.shape
    width = d // layer.heads
    q, k, v = (x @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, dim=-1)
    out = torch.zeros_like(x)
    for image in range(b):
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            unit = [
                rows[image, :, part] / (rows[image, :, part].square().mean(-1, keepdim=True) + EPSILON).sqrt() * sharp
                for rows, sharp in ((q, layer.sharpness[0, head]), (k, layer.sharpness[1, head]))
            ]
            for token in range(n):
                logits = torch.stack([unit[0][token] @ unit[1][other] for other in range(n)]) / math.sqrt(width)
                weight = logits.exp() / logits.exp().sum()
                out[image, token, part] = weight @ v[image, :, part]
    return out @ layer.out.weight.T + layer.out.bias


def test_attention_matches_its_slow_twin():
    torch.manual_seed(0)
    layer, x = Attention(8, 2).double(), random(2, 5, 8)
    torch.nn.init.normal_(layer.sharpness)
    assert_close(layer(x), attention_twin(layer, x), rtol=1e-10, atol=1e-12)


def test_attention_does_not_depend_on_the_length_of_queries_and_keys():
    torch.manual_seed(0)
    layer, x = Attention(8, 2).double(), random(2, 5, 8)
    before = layer(x)
    with torch.no_grad():
        layer.qkv.weight[:16] *= 50.0
        layer.qkv.bias[:16] *= 50.0
    assert_close(layer(x), before, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # the control: values are not normalised
        layer.qkv.weight[16:] *= 50.0
    assert (layer(x) - before).abs().max() > 0.1


def test_swiglu_matches_the_closed_form():
    torch.manual_seed(0)
    layer, x = SwiGLU(4, 6).double(), random(2, 3, 4)
    up = x @ layer.up.weight.T + layer.up.bias
    gate, value = up[..., :6], up[..., 6:]
    expected = (gate / (1 + torch.exp(-gate)) * value) @ layer.down.weight.T + layer.down.bias
    assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_rms_norm_leaves_rows_of_mean_square_one():
    assert_close(RMSNorm()(random(3, 8) * 40).square().mean(-1), torch.ones(3).double(), rtol=1e-6, atol=1e-6)


def test_a_block_with_gates_of_zero_is_the_identity():
    torch.manual_seed(0)
    block, x = Block(8, 2, 12).double(), random(2, 3, 8)
    modulation = random(2, 6, 8, seed=1)
    modulation[:, [2, 5]] = 0.0
    assert_close(block(x, modulation), x, rtol=0, atol=0)


def test_a_block_matches_its_equation():
    torch.manual_seed(0)
    block, x, modulation = Block(8, 2, 12).double(), random(2, 3, 8), random(2, 6, 8, seed=1)
    torch.nn.init.normal_(block.table)
    b1, a1, g1, b2, a2, g2 = (modulation[:, i, None] + block.table[i] for i in range(6))
    middle = x + g1 * block.attention(block.norm(x) * (1 + a1) + b1)
    expected = middle + g2 * block.mlp(block.norm(middle) * (1 + a2) + b2)
    assert_close(block(x, modulation), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["norm", "attention", "swiglu", "block"])
def test_derivatives_match_differences(name):
    torch.manual_seed(0)
    x = random(2, 3, 4).requires_grad_()
    layer = {"norm": RMSNorm(), "attention": Attention(4, 2), "swiglu": SwiGLU(4, 3), "block": Block(4, 2, 3)}[name]
    inputs = (x, random(2, 6, 4, seed=1).requires_grad_()) if name == "block" else (x,)
    assert torch.autograd.gradcheck(layer.double(), inputs)


def test_a_wrong_derivative_is_caught():
    class Stopped(torch.nn.Module):
        def forward(self, x):
            return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + EPSILON).detach()

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Stopped(), (random(2, 3, 4).requires_grad_(),))


def test_time_features_are_cosines_and_sines_of_a_geometric_progression():
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    waves = [1.0, math.sqrt(10.0), 10.0]
    expected = torch.stack([f(w * t) for f in (torch.cos, torch.sin) for w in waves], dim=-1)
    assert_close(FourierTime(6, highest=10.0).double()(t), expected, rtol=1e-6, atol=1e-6)


def test_time_features_tell_apart_times_a_hundredth_apart():
    features = FourierTime(64)(torch.linspace(0, 1, 101))
    assert (features[1:] - features[:-1]).norm(dim=1).min() > 1.0


def test_time_features_of_a_bfloat16_time_are_in_single_precision():
    t = torch.tensor([0.5], dtype=torch.bfloat16)
    assert_close(FourierTime(8).bfloat16()(t), FourierTime(8)(t.float()), rtol=0.5, atol=0.5)
    assert FourierTime(8)(t).dtype == torch.float32


@pytest.mark.parametrize("features", [0, 2, 7])
def test_too_few_or_odd_time_features_are_refused(features):
    with pytest.raises(SettingError, match="even"):
        FourierTime(features)
