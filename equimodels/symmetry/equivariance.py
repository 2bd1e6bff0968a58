"""One measure of equivariance for every module: how far f(g x) is from g f(x)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equimodels.symmetry.groups import Group, Orthogonal
from equimodels.symmetry.representations import Representation, act


def equivariance_error(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    rep_in: Sequence[Representation],
    rep_out: Representation,
    *,
    group: Group | None = None,
    samples: int = 8,
    generator: torch.Generator | None = None,
) -> float:
    """The largest |f(g x) - g f(x)| over `samples` elements g, relative to the largest |f(x)|.

    inputs: one tensor (..., d) for each representation in `rep_in`. group: O(3) unless given. A result that is not
    finite gives infinity. Raises ValueError when inputs and representations do not pair up, or f(x) is zero everywhere
    and shows nothing.
    """
    if len(inputs) != len(rep_in):
        raise ValueError(f"{len(inputs)} inputs for {len(rep_in)} representations")
    group = Orthogonal() if group is None else group
    expected = function(*inputs).detach()
    scale = float(expected.abs().max())
    if scale == 0:
        raise ValueError("the output is zero everywhere, which is equivariant under anything")
    worst = 0.0
    for element in group.sample(samples, generator):
        moved = [act(representation, element, x) for representation, x in zip(rep_in, inputs, strict=True)]
        error = (function(*moved).detach() - act(rep_out, element, expected)).abs().max() / scale
        worst = max(worst, float(torch.nan_to_num(error, nan=torch.inf)))
    return worst
