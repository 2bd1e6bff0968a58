"""Whether operations are recorded instead of run."""

from torch.fx.experimental.proxy_tensor import get_proxy_mode


def is_traced() -> bool:
    """Whether `make_fx` records a graph: loops over the data would be unrolled, as long as in the example."""
    return get_proxy_mode() is not None
