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
# Multiplications in a product of matrices below which torch.bmm does them one by one, on a CPU. Sums of outer products
# took, of 32 channels at degree 1, a half of the time of the convolution forward; from there on they are no faster.
NAIVE = 400
# Degrees from which the zeros of the table cost more than one product for each degree; of 1,000 edges and 4, 5 and 7
# degrees the whole table took 0.12, 0.43 and 2.6 ms, each degree by itself 0.19, 0.35 and 1.3 ms.
SEPARATE = 6


def edge_blocks(edges: int, width: int, device: torch.device) -> Iterator[slice]:
    """Slices of the edges, each with `width` numbers an edge."""
    step = edges_of_block(width, device)
    for start in range(0, edges, step):
        yield slice(start, start + step)


def edges_of_block(width: int, device: torch.device) -> int:
    """How many edges of `width` numbers a block has on this device, at least one."""
    return max(1, (BLOCK if device.type == "cpu" else BLOCK_CUDA) // max(1, width))


def filters_of(radial: Tensor, zonal: Tensor) -> Tensor:
    """(E, C, P): radial (E, C, L) @ zonal (E, L, P)."""
    edges, channels, degrees = radial.shape
    each = channels * zonal.shape[2]
    if each * degrees >= NAIVE or edges * each < BLOCK // 2 or zonal.device.type != "cpu":  # little to gain from few
        return torch.bmm(radial, zonal)
    out = radial[:, :, :1] * zonal[:, :1]
    for degree in range(1, degrees):
        out.addcmul_(radial[:, :, degree : degree + 1], zonal[:, degree : degree + 1])
    return out


def zonal_of(zonal: Tensor, table: Tensor | None, points: int) -> Tensor:
    """zonal (E, L, P) as it is, or made of zonal (E, K) by the table (K, L P), K = L^2, which keeps degrees apart."""
    if table is None:
        return zonal
    degrees = table.shape[1] // points
    if degrees < SEPARATE:
        return (zonal @ table).view(zonal.shape[0], degrees, points)  # not len, which would be a constant in exports
    return torch.stack([zonal[:, rows] @ table[rows, columns] for rows, columns in _parts(degrees, points)], dim=1)


def from_zonal(gradient: Tensor, table: Tensor | None) -> Tensor:
    """The transpose of `zonal_of`: (E, L, P) to (E, K), or as it is."""
    if table is None:
        return gradient
    degrees, points = gradient.shape[1:]
    if degrees < SEPARATE:
        return gradient.flatten(1) @ table.mT
    parts = zip(gradient.unbind(1), _parts(degrees, points), strict=True)
    return torch.cat([part @ table[rows, columns].mT for part, (rows, columns) in parts], dim=1)


def _parts(degrees: int, points: int) -> list[tuple[slice, slice]]:
    """Where each degree is in the rows and columns of the table; all else is zero."""
    return [(slice(l * l, (l + 1) ** 2), slice(l * points, (l + 1) * points)) for l in range(degrees)]  # noqa: E741
