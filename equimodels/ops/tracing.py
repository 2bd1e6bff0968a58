"""Whether operations are recorded instead of run."""

import torch
from torch.fx.experimental.proxy_tensor import get_proxy_mode


def is_traced() -> bool:
    """Whether `make_fx` records a graph: loops over the data would be unrolled, as long as in the example."""
    return not torch.compiler.is_compiling() and get_proxy_mode() is not None
