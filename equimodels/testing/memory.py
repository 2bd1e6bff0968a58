"""How much memory the tensors of a computation need at most at one time."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`with PeakMemory() as memory:` counts the bytes of tensors made inside; `memory.peak` is the most at one time.

    What autograd keeps counts; what existed before does not, nor views of it. What a kernel of torch allocates and
    frees by itself is not seen. The same at every call, unlike what the system says of a process.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._bytes: dict[int, int] = {}  # of every storage that lives, by its address; 0 of those from outside

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation and counts what is new."""
        kwargs = kwargs or {}
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                self._count(given.untyped_storage(), made_inside=False)
        out = func(*args, **kwargs)
        for made in tree_leaves(out):
            if isinstance(made, Tensor):
                self._count(made.untyped_storage(), made_inside=True)
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, storage: torch.UntypedStorage, *, made_inside: bool) -> None:
        if storage._cdata in self._bytes:
            return
        self._bytes[storage._cdata] = storage.nbytes() if made_inside else 0
        self.now += self._bytes[storage._cdata]
        weakref.finalize(storage, self._gone, storage._cdata).atexit = False

    def _gone(self, address: int) -> None:
        self.now -= self._bytes.pop(address)
