"""A transformer block whose normalisations are steered by a condition (adaLN-zero).

Shapes: B images, N tokens, D features, H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1.0e-6  # of every normalisation


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2)), with no weights: what follows it scales by its own. Zhang and Sennrich 2019.

    Written out: `F.rms_norm` is no faster on a CPU (383 against 365 microseconds forth and back for 512 x 64).
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., D). Returns (..., D), each row of mean square 1."""
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + EPSILON)


class Attention(nn.Module):
    """Self-attention over all tokens, with queries and keys normalised head by head (QK-norm, Henry et al. 2020).

    Without QK-norm the logits of long bfloat16 runs grow until the loss is NaN.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.sharpness = nn.Parameter(torch.ones(2, heads, dim // heads))  # of queries and keys
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, D). Returns (B, N, D)."""
        b, n, d = x.shape
        qk, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).split((2, 1), dim=2)
        q, k = (self.norm(qk) * self.sharpness).unbind(2)
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v[:, :, 0].transpose(1, 2))
        joined: Tensor = self.out(mixed.transpose(1, 2).reshape(b, n, d))
        return joined


class SwiGLU(nn.Module):
    """W_3 (silu(W_1 x) * W_2 x), Shazeer 2020."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, 2 * hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, D). Returns (B, N, D)."""
        gate, value = self.up(x).chunk(2, dim=-1)
        lowered: Tensor = self.down(F.silu(gate) * value)
        return lowered


class Block(nn.Module):
    """x + g_1 attention(norm(x) (1 + a_1) + b_1), then the same with a SwiGLU. Peebles and Xie 2023 (DiT).

    Shift b, scale a and gate g are the shared modulation of the network plus an own table; both start at zero,
    so that a new block is the identity.
    """

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm = RMSNorm()
        self.attention = Attention(dim, heads)
        self.mlp = SwiGLU(dim, hidden)
        self.table = nn.Parameter(torch.zeros(6, dim))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x: (B, N, D). modulation: (B, 6, D) of the network. Returns (B, N, D)."""
        b1, a1, g1, b2, a2, g2 = (modulation + self.table)[:, None].unbind(2)
        x = torch.addcmul(x, g1, self.attention(torch.addcmul(b1, self.norm(x), 1 + a1)))
        return torch.addcmul(x, g2, self.mlp(torch.addcmul(b2, self.norm(x), 1 + a2)))
