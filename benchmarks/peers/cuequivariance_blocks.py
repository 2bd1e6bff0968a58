"""Blocks of cuEquivariance on a CPU, for `worker` in its environment.

Its only method without CUDA is `naive`, with the contractions that opt_einsum_fx orders. Numbers lie in memory as it
prefers them, channels last, and the basis of products is its own, smaller than that of the original MACE.
Shapes: N atoms, C channels. Times are milliseconds.
"""

import functools

import cuequivariance as cue
import cuequivariance_torch as cuet
import torch
from inputs import SPECIES, species_of
from stopwatch import timed
from torch import Tensor, nn

PACKAGES = ("cuequivariance", "cuequivariance-torch", "opt_einsum_fx")
MESSAGES = "{0}x0e+{0}x1o+{0}x2e+{0}x3o"


class ManyBody(nn.Module):
    """(N, 16 C) to (N, numbers of the outputs): third order, weights by species, and a linear map as MACE has it."""

    def __init__(self, atoms: int, channels: int, outputs: str) -> None:
        super().__init__()
        given, wanted = (cue.Irreps("O3", written.format(channels)) for written in (MESSAGES, outputs))
        how = {"layout": cue.ir_mul, "method": "naive", "dtype": torch.float32}
        self.power = cuet.SymmetricContraction(given, wanted, contraction_degree=3, num_elements=SPECIES, **how)
        self.linear = cuet.Linear(wanted, wanted, **how)
        self.inputs = [torch.randn(atoms, given.dim, requires_grad=True)]
        self.kinds = species_of(atoms)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.power(x, self.kinds))


@functools.cache
def built(*sizes: int | str) -> ManyBody:
    """The block, once for each of its sizes: ordering its contractions takes up to a minute."""
    torch.manual_seed(0)
    return ManyBody(*sizes)


def many_body(atoms: int, channels: int, outputs: str, *, backward: bool, seconds: float) -> float:
    """One call of cuEquivariance's SymmetricContraction and Linear. outputs: irreps with {0} for the channels."""
    block = built(atoms, channels, outputs)
    return timed(block, block.inputs, list(block.parameters()), backward=backward, seconds=seconds)
