"""How the edges of a graph, or other rows, are divided into blocks whose intermediate arrays stay in cache.

Shapes: E edges, L filter degrees, P grid points, K numbers that zonal functions are made of.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

# Numbers in one (edges, C, P) block: 512 kB of float32. Making the arrays whole cost 2,400 page faults and 6 ms in a
# training step of eight ethanols; between 64 k and 256 k numbers the time is the same.
BLOCK = 1 << 17
BLOCK_CUDA = 1 << 28  # a GPU wants large launches; 1 GB of float32


def edge_blocks(edges: int, width: int, device: torch.device) -> Iterator[slice]:
    """Slices of the edges, each with `width` numbers an edge."""
    step = edges_of_block(width, device)
    for start in range(0, edges, step):
        yield slice(start, start + step)


def edges_of_block(width: int, device: torch.device) -> int:
    """How many edges of `width` numbers a block has on this device, at least one."""
    return max(1, (BLOCK if device.type == "cpu" else BLOCK_CUDA) // max(1, width))


def zonal_of(zonal: Tensor, table: Tensor | None, points: int) -> Tensor:
    """zonal (E, L, P) as it is, or made of zonal (E, K) by the table (K, L P)."""
    return zonal if table is None else (zonal @ table).view(zonal.shape[0], table.shape[1] // points, points)


def from_zonal(gradient: Tensor, table: Tensor | None) -> Tensor:
    """The transpose of `zonal_of`: (E, L, P) to (E, K), or as it is."""
    return gradient if table is None else gradient.flatten(1) @ table.mT
