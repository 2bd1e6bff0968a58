"""How much an atom listens to each neighbour: a softmax that stays smooth when neighbours come and go.

Shapes: N atoms, E directed edges, C channels, H heads, n = (lmax + 1)^2 coefficients.
"""

import torch
from torch import Tensor, nn

from equimodels.models.degree_linear import DegreeLinear

# Scores begin this small, so that attention begins as a mean. Begun at one, each atom listens to one neighbour, whose
# choice changes with every rattle: 60 steps of Adam on eight clusters then left a loss of 16, not of 0.3.
START = 0.1
CAP = 6.0  # largest score; exp(6) = 400 to one is as good as a choice, and nothing overflows


class EdgeAttention(nn.Module):
    """a_ij = c(r_ij) exp(s_ij) / (1 + sum over edges k -> i of c(r_ik) exp(s_ik)), for each head.

    c is the smooth cutoff and s the score, invariant: q_i . k_j (all degrees), plus a_i evaluated in the direction of
    the edge, plus a function of the distance. The one in the denominator makes a vanish smoothly with the last
    neighbour, where a plain softmax would stay at one up to the cutoff.
    """

    def __init__(self, lmax: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.coefficients = heads, (lmax + 1) ** 2
        self.width = channels // heads * self.coefficients  # numbers of a head
        self.query = DegreeLinear(lmax, channels, channels)
        self.key = DegreeLinear(lmax, channels, channels)
        self.look = DegreeLinear(lmax, channels, heads)

    def forward(self, features: Tensor, bias: Tensor, envelope: Tensor, harmonics: Tensor, edges: Tensor) -> Tensor:
        """features (N, C, n); bias (E, H); envelope (E,); harmonics (E, >= n). Returns (E, H)."""
        sender, receiver = edges
        query = self.query(features).index_select(0, receiver)
        matched = (query * self.key(features).index_select(0, sender)).reshape(sender.shape[0], self.heads, self.width)
        towards = self.look(features).index_select(0, receiver) * harmonics[:, None, : self.coefficients]
        score = START * (matched.sum(-1) * self.width**-0.5 + towards.sum(-1) * self.coefficients**-0.5 + bias)
        weight = torch.exp(CAP * torch.tanh(score / CAP)) * envelope[:, None]
        total = weight.new_ones(features.shape[0], self.heads).index_add(0, receiver, weight)
        return weight / total.index_select(0, receiver)
