"""One measure of equivariance for every module: how far f(g x) is from g f(x)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equimodels.symmetry.groups import Group, Orthogonal
from equimodels.symmetry.representations import Representation, act


def equivariance_error(
    function: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor],
    rep_in: Sequence[Representation],
    rep_out: Representation | Sequence[Representation],
    *,
    group: Group | None = None,
    samples: int = 8,
    generator: torch.Generator | None = None,
) -> float:
    """The largest |f(g x) - g f(x)| over `samples` elements g, relative to the largest |f(x)|.

    inputs: one tensor (..., d) for each representation in `rep_in`. rep_out: of the tensor f returns, or one for each
    of the tensors; each is compared on its own scale. group: O(3) unless given. A result that is not finite gives
    infinity. Raises ValueError when tensors and representations do not pair up, or an output is zero everywhere and
    shows nothing.
    """
    if len(inputs) != len(rep_in):
        raise ValueError(f"{len(inputs)} inputs for {len(rep_in)} representations")
    group = Orthogonal() if group is None else group
    several = isinstance(rep_out, Sequence)
    wanted = rep_out if isinstance(rep_out, Sequence) else [rep_out]

    def outputs(values: Sequence[Tensor]) -> list[Tensor]:
        found = function(*values)
        tensors = [found] if isinstance(found, Tensor) and not several else list(found)
        if len(tensors) != len(wanted):
            raise ValueError(f"{len(tensors)} outputs for {len(wanted)} representations")
        return [tensor.detach() for tensor in tensors]

    expected = outputs(inputs)
    scales = [float(tensor.abs().max()) for tensor in expected]
    if 0 in scales:
        raise ValueError("the output is zero everywhere, which is equivariant under anything")
    worst = 0.0
    for element in group.sample(samples, generator):
        moved = outputs([act(representation, element, x) for representation, x in zip(rep_in, inputs, strict=True)])
        for found, before, scale, representation in zip(moved, expected, scales, wanted, strict=True):
            error = (found - act(representation, element, before)).abs().max() / scale
            worst = max(worst, float(torch.nan_to_num(error, nan=torch.inf)))
    return worst
