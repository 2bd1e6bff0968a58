"""Whether operations are recorded instead of run."""

import torch
from torch.fx.experimental.proxy_tensor import get_proxy_mode


def is_traced() -> bool:
    """Whether `torch.compile`, `torch.export` or `make_fx` records a graph.

    Loops over the data would be unrolled, as long as in the example.
    """
    return torch.compiler.is_compiling() or get_proxy_mode() is not None
