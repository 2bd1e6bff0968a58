"""Edge convolution in the frame of the edge, with a free weight for every path.

Laid along the polar axis, an edge mixes only coefficients of the same order m: a small matrix for each |m| instead of a
tensor product. Shapes: N atoms, E edges, C channels, n_i = (lmax_i + 1)^2, W weights.
Source: Passaro and Zitnick 2023 (arXiv 2302.03655), section 3.2.
"""

import torch
from torch import Tensor

from equimodels.errors import require
from equimodels.ops.edge_frames import EdgeFrames
from equimodels.ops.exact import ExactTables
from equimodels.ops.gaunt_dense import gaunt_coefficients
from equimodels.ops.recomputed import Atoms, recomputed
from equimodels.ops.spherical_harmonics import MAX_DEGREE
from equimodels.ops.tracing import is_traced

BLOCK = 1 << 21  # numbers of messages in one block of edges


class RotatedConvolution(ExactTables):
    """out_i = sum over edges j -> i of D^T M D x_j, where D lays the edge along the axis and M mixes degrees at each m.

    M has one weight for every |m| <= mmax and pair of degrees (l_in, l_out) of at least |m|, the same for m and -m, so
    that reflections are kept: `number` in all. Up to mmax = min(lmax_in, lmax_out), which is taken unless given, these
    span all paths (l_in, l_filter, l_out) of even sum, each with a weight of its own.
    Raises SettingError for an lmax outside 0..12 or mmax outside 0..min(lmax_in, lmax_out).
    """

    inwards: Tensor
    outwards: Tensor

    def __init__(self, lmax_in: int, lmax_out: int, mmax: int | None = None) -> None:
        super().__init__()
        for name, lmax in (("lmax_in", lmax_in), ("lmax_out", lmax_out)):
            require(0 <= lmax <= MAX_DEGREE, name, lmax, f"0 to {MAX_DEGREE}")
        most = min(lmax_in, lmax_out)
        mmax = most if mmax is None else mmax
        require(0 <= mmax <= most, "mmax", mmax, f"0 to {most}, the smaller lmax")
        self.lmax_in, self.lmax_out, self.mmax = lmax_in, lmax_out, mmax
        self.frames = EdgeFrames(max(lmax_in, lmax_out))
        self.orders = [order for m in range(mmax + 1) for order in ((m, -m) if m else (0,))]
        self.number = sum((lmax_in - m + 1) * (lmax_out - m + 1) for m in range(mmax + 1))
        self.register_buffer("inwards", _by_order(lmax_in, self.orders), persistent=False)
        back = torch.full(((lmax_out + 1) ** 2,), -1)
        kept = _by_order(lmax_out, self.orders)
        back[kept] = torch.arange(len(kept))
        # Orders above mmax come out as zero: they are taken from a column of zeros behind the others.
        self.register_buffer("outwards", torch.where(back < 0, len(kept), back), persistent=False)

    def forward(
        self,
        features: Tensor,
        weights: Tensor,
        unit: Tensor,
        sender: Tensor,
        receiver: Tensor,
        basis: Tensor | None = None,
    ) -> Tensor:
        """features: (N, C, n_in); weights: (E, C, W) or (E, 1, W); unit: (E, 3), of length 1, from sender to receiver.

        sender, receiver: (E,) int64; basis: (K, W) without derivatives, where weights are (E, C or 1, K) and stand for
        weights @ basis. Returns (N, C, n_out); an atom without edges gets zeros. Many edges are done in blocks, which
        are computed again for derivatives of every order, instead of kept.
        """

        def messages(x: Tensor, weights: Tensor, unit: Tensor) -> tuple[Tensor]:
            return (self.messages(x, weights, unit, basis),)

        atoms, width = features.shape[0], features.shape[2] + (self.lmax_out + 1) ** 2 + self.number
        step = max(1, BLOCK // max(1, features.shape[1] * width))
        if is_traced() or len(sender) <= step:
            (found,) = messages(features.index_select(0, sender), weights, unit)
            return found.new_zeros(atoms, *found.shape[1:]).index_add(0, receiver, found)
        taken, given = (Atoms(sender, atoms), None, None), (Atoms(receiver, atoms),)
        return recomputed(messages, (features, weights, unit), step=step, taken=taken, given=given)[0]

    def messages(self, x: Tensor, weights: Tensor, unit: Tensor, basis: Tensor | None = None) -> Tensor:
        """(E, C, n_out): what each edge brings; x: (E, C, n_in), the features of its sender."""
        weights = weights if basis is None else weights @ basis
        frames = self.frames(unit)
        x = _turned(x, [frame.mT for frame in frames[: self.lmax_in + 1]])
        x = x.index_select(-1, self.inwards)
        # Split, not sliced: of a slice the gradient is an array as large as the whole, zero elsewhere.
        sizes = [(self.lmax_out - m + 1, self.lmax_in - m + 1) for m in range(self.mmax + 1)]
        matrices = [
            part.reshape(*part.shape[:-1], *size)
            for part, size in zip(torch.split(weights, [r * c for r, c in sizes], dim=-1), sizes, strict=True)
        ]
        parts = torch.split(x, [sizes[abs(order)][1] for order in self.orders], dim=-1)
        # -m takes the weights of m once more
        found = [(matrices[abs(m)] @ part[..., None]).squeeze(-1) for m, part in zip(self.orders, parts, strict=True)]
        found.append(torch.zeros_like(found[0][..., :1]))
        out = torch.cat(found, dim=-1).index_select(-1, self.outwards)
        return _turned(out, frames[: self.lmax_out + 1])


def gaunt_weights(lmax_in: int, lmax_filter: int, lmax_out: int) -> Tensor:
    """(lmax_filter + 1, W) float64: radial @ this are the weights with which the convolution is a `GauntConvolution`.

    On the axis y the filter sum_l radial_l Y_l has order 0 only, where Y_l0 = sqrt(2 l + 1).
    """
    table = gaunt_coefficients(lmax_in, lmax_filter, lmax_out)
    rows = []
    for degree in range(lmax_filter + 1):
        product = (2 * degree + 1) ** 0.5 * table[:, degree * degree + degree, :]
        weights = [
            product[a * a + a + m, b * b + b + m]
            for m in range(min(lmax_in, lmax_out) + 1)
            for b in range(m, lmax_out + 1)
            for a in range(m, lmax_in + 1)
        ]
        rows.append(torch.stack(weights))
    return torch.stack(rows)


def _by_order(lmax: int, orders: list[int]) -> Tensor:
    """Indices of the coefficients of these orders m, one order after the other, degrees rising in each."""
    return torch.tensor([degree * degree + degree + m for m in orders for degree in range(abs(m), lmax + 1)])


def _turned(x: Tensor, frames: list[Tensor]) -> Tensor:
    """x: (E, C, n) times the block of each degree, (E, 2 l + 1, 2 l + 1)."""
    parts = torch.split(x, [2 * degree + 1 for degree in range(len(frames))], dim=-1)
    return torch.cat([part @ frame for part, frame in zip(parts, frames, strict=True)], dim=-1)
