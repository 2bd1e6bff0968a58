"""For each edge the rotation that lays it along the polar axis y, as Wigner D matrices that can be differentiated.

Shapes: E edges. Source: Passaro and Zitnick 2023 (arXiv 2302.03655), section 3, for what it is good for.
"""

import torch
from torch import Tensor

from equimodels.ops.exact import ExactTables
from equimodels.ops.spherical_harmonics import degree_slices
from equimodels.ops.wigner import block_wigner_D

# A rotation about x is one about y between these two turns, x to y and back.
TURN = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
# (x, y, z) to (z, x, y): takes the poles, where an azimuth has no derivative, to the equator.
CYCLE = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
NEAR_POLE = 0.8  # |cos| of the polar angle from which an edge is turned by CYCLE first


class EdgeFrames(ExactTables):
    """D_l(R) with R r = y for each direction r, degrees 0..lmax.

    R is one of many, which differ by a turn about y: only what does not change by such a turn may be computed from it.
    Derivatives of such results are right in every direction, the poles included.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        turn, cycle = block_wigner_D(lmax, TURN), block_wigner_D(lmax, CYCLE)
        for degree, where in enumerate(degree_slices(lmax)):
            self.add_table(f"turned{degree}", _about_x(turn[where, where]))
            self.add_table(f"cycle{degree}", cycle[where, where].contiguous())

    def forward(self, unit: Tensor) -> list[Tensor]:
        """unit: (E, 3), of length 1. Returns (E, 2 l + 1, 2 l + 1) for each degree l."""
        near = unit[:, 1].abs() > NEAR_POLE
        x, y, z = torch.where(near[:, None], unit.roll(1, dims=-1), unit).unbind(-1)
        across = (x.square() + z.square()).sqrt()
        cos_polar, sin_polar = _multiples(y, across, self.lmax)
        cos_azimuth, sin_azimuth = _multiples(z / across, x / across, self.lmax)
        found = []
        for degree in range(self.lmax + 1):
            width = 2 * degree + 1
            # D(R_x(-polar)) = sum over m of cos(m polar) A_m + sin(m polar) B_m
            waves = torch.cat([cos_polar[:, : degree + 1], sin_polar[:, 1 : degree + 1]], dim=1)
            tilted = (waves @ self.get_buffer(f"turned{degree}")).view(-1, width, width)
            # times D(R_y(-azimuth)), which mixes the columns m and -m
            cosine, sine = cos_azimuth[:, : degree + 1], sin_azimuth[:, : degree + 1]
            along = torch.cat([cosine[:, 1:].flip(-1), cosine], dim=1)
            beside = torch.cat([sine[:, 1:].flip(-1), -sine], dim=1)
            matrix = tilted * along[:, None, :] + tilted.flip(-1) * beside[:, None, :]
            first = matrix @ self.get_buffer(f"cycle{degree}")
            found.append(torch.where(near[:, None, None], first, matrix))
        return found


def _multiples(cosine: Tensor, sine: Tensor, highest: int) -> tuple[Tensor, Tensor]:
    """cos(m a) and sin(m a) for m = 0..highest: (E, highest + 1) each."""
    cosines, sines = [torch.ones_like(cosine)], [torch.zeros_like(sine)]
    for _ in range(highest):
        c, s = cosines[-1], sines[-1]
        cosines.append(c * cosine - s * sine)
        sines.append(s * cosine + c * sine)
    return torch.stack(cosines, dim=-1), torch.stack(sines, dim=-1)


def _about_x(turn: Tensor) -> Tensor:
    """(2 l + 1, (2 l + 1)^2): the coefficients of 1, cos(m a), ..., sin(m a), ... in turn^T D(R_y(-a)) turn."""
    width = len(turn)
    centre = width // 2
    rows = []
    for m in range(centre + 1):
        wave = torch.zeros(width, width, dtype=turn.dtype)
        wave[centre + m, centre + m] = wave[centre - m, centre - m] = 1
        rows.append(turn.mT @ wave @ turn)
    for m in range(1, centre + 1):
        wave = torch.zeros(width, width, dtype=turn.dtype)
        wave[centre + m, centre - m], wave[centre - m, centre + m] = 1, -1
        rows.append(turn.mT @ wave @ turn)
    return torch.stack(rows).flatten(1)
