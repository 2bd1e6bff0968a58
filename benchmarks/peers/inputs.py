"""What both sides of a comparison of blocks are given. Nothing but torch. Shapes: N atoms, E edges, S species."""

from dataclasses import dataclass

import torch
from torch import Tensor

SPECIES = 4
CUTOFF = 5.0  # angstrom


@dataclass(frozen=True)
class Edges:
    """sender, receiver (E,), sorted by receiver; vectors (E, 3), angstrom, within the cutoff."""

    sender: Tensor
    receiver: Tensor
    vectors: Tensor

    @classmethod
    def between(cls, atoms: int, count: int) -> "Edges":
        """So many directed edges, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        receiver = torch.arange(count) * atoms // count
        sender = (receiver + torch.randint(1, atoms, (count,), generator=generator)) % atoms
        directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
        return cls(sender, receiver, directions * (0.8 + (CUTOFF - 0.8) * torch.rand(count, 1, generator=generator)))


def species_of(atoms: int) -> Tensor:
    """(N,) from 0 to S - 1, as many of each."""
    return torch.arange(atoms) % SPECIES
