"""Blocks of MACE as its training command builds them by default, for `worker` in MACE's environment.

Shapes: N atoms, E edges, C channels. Irreps are written with {0} for the channels. Times are milliseconds.
"""

import functools
import warnings

import torch
from torch import Tensor, nn

warnings.simplefilter("ignore")  # TorchScript, which it compiles with, has been deprecated by torch
import mace  # noqa: E402, F401  # first: it lets its e3nn load constants, which torch refuses since 2.6
from e3nn import o3  # noqa: E402
from inputs import CUTOFF, SPECIES, Edges, species_of  # noqa: E402
from mace.modules.blocks import (  # noqa: E402
    EquivariantProductBasisBlock,
    RadialEmbeddingBlock,
    RealAgnosticResidualInteractionBlock,
)
from stopwatch import timed  # noqa: E402

PACKAGES = ("mace-torch", "e3nn")
MESSAGES = "{0}x0e+{0}x1o+{0}x2e+{0}x3o"


class ManyBody(nn.Module):
    """(N, C, 16) to (N, numbers of the outputs): third order, weights by species, and the linear map that follows."""

    def __init__(self, atoms: int, channels: int, outputs: str) -> None:
        super().__init__()
        self.block = EquivariantProductBasisBlock(
            irreps(MESSAGES, channels),
            irreps(outputs, channels),
            correlation=3,
            use_sc=False,
            num_elements=SPECIES,
            use_reduced_cg=False,
        )
        self.inputs = [torch.randn(atoms, channels, 16, requires_grad=True)]
        self.kinds = one_hot(atoms)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, None, self.kinds)


class EdgeBlock(nn.Module):
    """Messages (N, C, 16) and the residual, side by side: 64x(0e+1o) in, and the lengths and harmonics of the edges."""

    def __init__(self, atoms: int, edges: int, channels: int) -> None:
        super().__init__()
        features, harmonics = irreps("{0}x0e+{0}x1o", channels), o3.Irreps.spherical_harmonics(3)
        self.radial = RadialEmbeddingBlock(r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5)
        self.block = RealAgnosticResidualInteractionBlock(
            node_attrs_irreps=irreps("{0}x0e", SPECIES),
            node_feats_irreps=features,
            edge_attrs_irreps=harmonics,
            edge_feats_irreps=irreps("{0}x0e", self.radial.out_dim),
            target_irreps=irreps(MESSAGES, channels),
            hidden_irreps=features,
            avg_num_neighbors=edges / atoms,
        )
        given = Edges.between(atoms, edges)
        self.kinds, self.index = one_hot(atoms), torch.stack([given.sender, given.receiver])
        self.inputs = [
            torch.randn(atoms, features.dim, requires_grad=True),
            given.vectors.norm(dim=1, keepdim=True).requires_grad_(),
            o3.spherical_harmonics(harmonics, given.vectors, True, "component").requires_grad_(),
        ]

    def forward(self, features: Tensor, lengths: Tensor, harmonics: Tensor) -> Tensor:
        radial, _ = self.radial(lengths, self.kinds, self.index, None)
        messages, kept = self.block(self.kinds, features, harmonics, radial, self.index)
        return torch.cat([messages.flatten(1), kept], 1)


def irreps(written: str, channels: int) -> o3.Irreps:
    """Of so many channels."""
    return o3.Irreps(written.format(channels))


def one_hot(atoms: int) -> Tensor:
    """(N, S)."""
    return nn.functional.one_hot(species_of(atoms), SPECIES).float()


@functools.cache
def built(kind: type[nn.Module], *sizes: int | str) -> nn.Module:
    """A block, once for each of its sizes: compiled in its first calls, and then kept."""
    torch.manual_seed(0)
    return kind(*sizes)


def many_body(atoms: int, channels: int, outputs: str, *, backward: bool, seconds: float) -> float:
    """One call of MACE's EquivariantProductBasisBlock."""
    block = built(ManyBody, atoms, channels, outputs)
    return timed(block, block.inputs, list(block.parameters()), backward=backward, seconds=seconds)


def edge_block(atoms: int, edges: int, channels: int, *, backward: bool, seconds: float) -> float:
    """One call of MACE's RealAgnosticResidualInteractionBlock, and the radial basis it is given."""
    block = built(EdgeBlock, atoms, edges, channels)
    return timed(block, block.inputs, list(block.parameters()), backward=backward, seconds=seconds)
