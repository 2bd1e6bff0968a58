"""Parameters whose rows cannot be shared evenly are laid flat, so that each rank holds a fair part of them.

Three matrices of degrees 0, 1 and 2 in one tensor would be two for the first of two ranks and one for the other.
"""

from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def lay_flat(model: nn.Module, ranks: int) -> None:
    """Replace such parameters by flat ones of the same name; modules see them in their shape where they are gathered.

    Before anything is sharded. A parameter that several modules share stays as it is.
    """
    owners: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for p in module._parameters.values():
            if p is not None:
                owners[p] = owners.get(p, 0) + 1
    for module in model.modules():
        uneven = {
            name: p
            for name, p in module._parameters.items()
            if p is not None and owners[p] == 1 and (p.ndim == 0 or p.shape[0] % ranks)
        }
        if not uneven:
            continue
        views = {name: property(_in_shape(name, p.shape)) for name, p in uneven.items()}
        for name, p in uneven.items():
            module._parameters[name] = nn.Parameter(p.detach().reshape(-1), requires_grad=p.requires_grad)
        module.__class__ = type(type(module).__name__, (type(module),), views)


def _in_shape(name: str, shape: Any) -> Any:
    def get(module: nn.Module) -> Tensor | None:
        p = module._parameters[name]
        return p if p is None or isinstance(p, DTensor) else p.view(shape)

    return get
