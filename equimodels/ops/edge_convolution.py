"""The convolution with an edge filter, on the grid or in the frame of the edge: whichever is faster.

Shapes: N atoms, E edges, C channels, n_i = (lmax_i + 1)^2.
"""

from math import inf
from typing import Literal, get_args

import torch
from torch import Tensor

from equimodels.errors import require
from equimodels.ops.exact import ExactTables
from equimodels.ops.gaunt_convolution import GauntConvolution
from equimodels.ops.rotated_convolution import RotatedConvolution, gaunt_weights
from equimodels.ops.spherical_harmonics import MAX_DEGREE
from equimodels.ops.tracing import is_traced

Form = Literal["grid", "rotated"]
Choice = Literal["grid", "rotated", "auto"]

# Edges times channels from which the frame of the edge is faster, by the largest of the three degrees; inf where it
# never was. Preliminary, of one thread of a busy machine: at degrees 1 and 3 with up to 10,000 edges it took 4 to 13
# times as long; at degrees 4 to 12 with 1 to 2,000 edges of 1 to 64 channels 1.0 to 20 times, the least at degree 12
# with one edge an atom. To correct: column `rotated / grid` of benchmarks/edge_convolution.py.
ROTATED_FROM = (inf,) * (MAX_DEGREE + 1)


def form_for(lmax_in: int, lmax_filter: int, lmax_out: int, edges: int, channels: int) -> Form:
    """The form that is faster for so many edges and channels."""
    return "rotated" if edges * channels >= ROTATED_FROM[max(lmax_in, lmax_filter, lmax_out)] else "grid"


class EdgeConvolution(ExactTables):
    """out_i = sum over edges j -> i of x_j * (sum_l radial_l Y_l(edge)), as functions on the sphere.

    form: `grid` is `GauntConvolution`; `rotated` is `RotatedConvolution` with the weights that make it the same map;
    `auto` takes the one that `form_for` names, and the grid where operations are recorded instead of run. They agree to
    rounding, in all derivatives by features, radial weights and the direction of an edge. By the harmonics alone, which
    are not free, they have different derivatives: the second depends on those of degree one only.
    Raises SettingError for an lmax outside 0..12 or an unknown form.
    """

    basis: Tensor

    def __init__(self, lmax_in: int, lmax_filter: int, lmax_out: int, form: Choice = "auto") -> None:
        super().__init__()
        for name, lmax in (("lmax_in", lmax_in), ("lmax_filter", lmax_filter), ("lmax_out", lmax_out)):
            require(0 <= lmax <= MAX_DEGREE, name, lmax, f"0 to {MAX_DEGREE}")
        require(form in get_args(Choice), "form", form, ", ".join(get_args(Choice)))
        self.lmax_in, self.lmax_filter, self.lmax_out, self.form = lmax_in, lmax_filter, lmax_out, form
        of_most = form_for(lmax_in, lmax_filter, lmax_out, 1 << 62, 1) if form == "auto" else form
        self.grid = GauntConvolution(lmax_in, lmax_filter, lmax_out) if form != "rotated" else None
        self.rotated = RotatedConvolution(lmax_in, lmax_out) if of_most == "rotated" else None
        if self.rotated is not None:
            self.add_table("basis", gaunt_weights(lmax_in, lmax_filter, lmax_out))

    def forward(self, features: Tensor, radial: Tensor, harmonics: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        """features: (N, C, n_in); radial: (E, C, lmax_filter + 1); harmonics: (E, n_filter), component-normalized.

        sender, receiver: (E,) int64. Returns (N, C, n_out); an atom without edges gets zeros. Of an edge of length
        zero, whose harmonics are zero but for degree 0, only that degree acts.
        """
        if self.grid is not None and (self.rotated is None or not self._is_rotated(sender.shape[0], features.shape[1])):
            on_grid: Tensor = self.grid(features, radial, harmonics, sender, receiver)
            return on_grid
        assert self.rotated is not None
        unit, radial = _directions(harmonics, radial)
        in_frames: Tensor = self.rotated(features, radial, unit, sender, receiver, self.basis)
        return in_frames

    def _is_rotated(self, edges: int, channels: int) -> bool:
        if is_traced():  # one program for any number of edges
            return False
        return form_for(self.lmax_in, self.lmax_filter, self.lmax_out, edges, channels) == "rotated"


def _directions(harmonics: Tensor, radial: Tensor) -> tuple[Tensor, Tensor]:
    """The unit vectors (E, 3) whose harmonics these are, and the radial weights without what needs a direction there.

    Degree one is sqrt(3) (x, y, z). Without it the filter is the same in all directions, and any will do.
    """
    axis = harmonics.new_tensor([0.0, 1.0, 0.0])
    if harmonics.shape[1] == 1:
        return axis.expand(harmonics.shape[0], 3), radial * harmonics[:, None]
    unit = harmonics[:, 1:4] / 3**0.5
    nowhere = (unit == 0).all(dim=1)
    directed = torch.arange(radial.shape[2], device=radial.device) > 0
    radial = torch.where(nowhere[:, None, None] & directed, 0.0, radial)
    return torch.where(nowhere[:, None], axis, unit), radial
