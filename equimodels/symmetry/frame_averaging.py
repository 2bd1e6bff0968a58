"""Any network on point clouds made equivariant, by averaging over the frames of its input.

Shapes: B clouds, n points, F frames. Source: Puny, Atzmon, Ben-Hamu, Smith, Misra, Grover and Lipman 2021
(arXiv 2110.03336), eq. 3 and 4: f(X) = mean over g in F(X) of g . backbone(g^-1 X). The frames are the principal axes
with each choice of signs, 8 for O(3) and the 4 of determinant one for SO(3).
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from equimodels.errors import require
from equimodels.symmetry.frames import TOLERANCE, DegenerateFrameError, Frame, principal_frame
from equimodels.symmetry.groups import euclidean
from equimodels.symmetry.representations import Action, Point, Representation

OnDegenerate = Literal["raise", "warn", "ignore"]


class FrameAveraging(nn.Module):
    """`backbone` made equivariant under rotations, translations and, unless `reflections=False`, reflections.

    backbone: called as backbone(points, *others), or backbone(points, *others, mask=mask) where a mask is given, with
    F B clouds at once; returns one tensor (F B, d) or (F B, ..., d), or several. rep_out: what that is to be,
    `Invariant`, `Vector`, `Point`, `Harmonic`, ...; one, or one for each tensor. rep_in: of the inputs, (B, ..., d)
    each; the first holds the points (B, n, 3) that fix the frames. The backbone sees centred points.

    A degenerate cloud (see `principal_frame`) has arbitrary axes and the result for it is not equivariant:
    `on_degenerate` says whether that raises DegenerateFrameError, warns, or is left to who asks `frame`. Exact to
    1e-5 in float32 and 1e-10 in float64 elsewhere.
    """

    def __init__(
        self,
        backbone: nn.Module,
        rep_out: Representation | Sequence[Representation],
        *,
        rep_in: Sequence[Representation] = (Point(),),
        reflections: bool = True,
        on_degenerate: OnDegenerate = "raise",
        tolerance: float = TOLERANCE,
    ) -> None:
        super().__init__()
        require(on_degenerate in get_args(OnDegenerate), "on_degenerate", on_degenerate, "raise, warn, ignore")
        require(0 < tolerance < 1, "tolerance", tolerance, "between 0 and 1")
        require(len(rep_in) > 0 and isinstance(rep_in[0], Point), "rep_in", rep_in, "with Point() first")
        self.backbone, self.rep_in = backbone, tuple(rep_in)
        self.several = isinstance(rep_out, Sequence)
        self.rep_out = tuple(rep_out) if isinstance(rep_out, Sequence) else (rep_out,)
        self.reflections, self.on_degenerate, self.tolerance = reflections, on_degenerate, tolerance

    def frame(self, points: Tensor, mask: Tensor | None = None) -> Frame:
        """The frame of each cloud, with the report of which are degenerate."""
        return principal_frame(points, mask, tolerance=self.tolerance)

    def forward(self, points: Tensor, *others: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """points: (B, n, 3); others as `rep_in` says; mask: (B, n) bool, False for padding. Returns as `rep_out` says.

        Raises DegenerateFrameError where asked to, and SettingError when inputs or outputs and representations do not
        pair up.
        """
        require(1 + len(others) == len(self.rep_in), "rep_in", self.rep_in, f"one for each of {1 + len(others)} inputs")
        elements = self._elements(points, mask)  # (F, B, 4, 4)
        count, batch = elements.shape[:2]
        flat = elements.flatten(0, 1)
        inverse = euclidean(flat[:, :3, :3].mT, -(flat[:, None, :3, 3] @ flat[:, :3, :3]).squeeze(1))
        moved = [
            _act(representation, inverse, x.repeat(count, *[1] * (x.dim() - 1)))
            for representation, x in zip(self.rep_in, (points, *others), strict=True)
        ]
        found = self.backbone(*moved) if mask is None else self.backbone(*moved, mask=mask.repeat(count, 1))
        outputs = tuple(found) if self.several else (found,)
        require(len(outputs) == len(self.rep_out), "rep_out", self.rep_out, f"one for each of {len(outputs)} outputs")
        means = tuple(
            _act(representation, flat, x).reshape(count, batch, *x.shape[1:]).mean(dim=0)
            for representation, x in zip(self.rep_out, outputs, strict=True)
        )
        return means if self.several else means[0]

    def _elements(self, points: Tensor, mask: Tensor | None) -> Tensor:
        """(F, B, 4, 4): the motions that take a cloud in standard position to where it is."""
        frame = self.frame(points, mask)
        if self.on_degenerate != "ignore" and bool(frame.degenerate.any()):
            error = DegenerateFrameError(tuple(frame.degenerate.nonzero().squeeze(1).tolist()))
            if self.on_degenerate == "raise":
                raise error
            warnings.warn(str(error), stacklevel=3)
        signs = frame.axes.new_tensor(list(itertools.product((1.0, -1.0), repeat=3)))  # (8, 3)
        axes = frame.axes * signs[:, None, None, :]
        if not self.reflections:
            # Half of the signs give a rotation, for each cloud its own half; their order does not matter.
            proper = torch.linalg.det(axes.detach()) > 0  # (8, B)
            chosen = proper.to(torch.int8).argsort(dim=0, descending=True)[:4]
            axes = axes.gather(0, chosen[:, :, None, None].expand(-1, -1, 3, 3))
        return euclidean(axes, frame.centre.expand(len(axes), -1, -1))


def _act(representation: Representation, elements: Tensor, x: Tensor) -> Tensor:
    """x: (B, ..., d), each with its own element. Transformed in float64, in the dtype of x."""
    rows = x.to(torch.float64).reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
    if isinstance(representation, Action):
        moved = representation.act(elements, rows)
    else:
        moved = rows @ representation.matrix(elements).to(x.device).mT
    return moved.reshape(*x.shape[:-1], moved.shape[-1]).to(x.dtype)
