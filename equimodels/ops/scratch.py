"""Memory that is written again and again, so that the system need not hand out the same pages anew at every call."""

import threading

import torch
from torch import Tensor

_kept = threading.local()
LARGEST = 1 << 23  # numbers; more than a block ever has, unless a single row is as large


def scratch(sizes: list[tuple[int, int]], like: Tensor) -> list[Tensor]:
    """Empty matrices of these sizes in the dtype and on the device of `like`, valid until the next call on this thread.

    2 MB fresh from the system cost 500 page faults, as much time as the Gaunt product of 1,000 rows of degree 6.
    """
    total = sum(rows * columns for rows, columns in sizes)
    whole = _whole(total, like)
    lengths = [rows * columns for rows, columns in sizes]
    parts = torch.split(whole[:total], lengths)
    return [part.view(size) for part, size in zip(parts, sizes, strict=True)]


def _whole(total: int, like: Tensor) -> Tensor:
    if like.device.type != "cpu" or total > LARGEST:
        return like.new_empty(total)
    buffers: dict[torch.dtype, Tensor] = _kept.__dict__.setdefault("buffers", {})
    found = buffers.get(like.dtype)
    if found is None or len(found) < total:
        with torch.inference_mode(False):
            found = like.new_empty(total)
        if type(found) is Tensor:  # not one of a tracer, which has no memory
            buffers[like.dtype] = found
    return found
