"""Random numbers as a function of where in the run they are drawn, and the switch for operations that repeat exactly.

No state of a generator is ever saved: a run that is resumed, on any number of workers, draws the same numbers.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# Streams: the noise of an objective, what layers draw, and evaluations do not see each other's numbers.
NOISE, LAYERS, EVALUATION = 0, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F


def seed_all(seed: int) -> None:
    """Seed every global generator of this process, so that all ranks begin with the same weights."""
    random.seed(seed)
    np.random.seed(seed)  # third-party code draws from the legacy generator
    torch.manual_seed(seed)


def seed_of(seed: int, step: int, part: int, stream: int) -> int:
    """The seed of one micro-batch: number `part` of all of its step, over all ranks. stream: what it is drawn for."""
    return ((seed * 1_000_003 + step) * 4_099 + part) ^ stream


def draws(seed: int, step: int, part: int, stream: int = NOISE) -> torch.Generator:
    """The generator of one micro-batch; places as for `seed_of`."""
    return torch.Generator().manual_seed(seed_of(seed, step, part, stream))


def reseed(seed: int, device: torch.device) -> None:
    """Seed the global generators that layers of a model on `device` draw from, dropout for one.

    torch.manual_seed takes 1 ms for this and more memory every time, noting it for GPUs that may be used later.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        place = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[place].manual_seed(seed)


@contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Inside, torch uses only operations that give the same bits every time, and refuses those that cannot."""
    if not on:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    tuned = torch.backends.cudnn.benchmark
    # cuBLAS repeats itself only with a workspace of its own; it reads this when the first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = tuned
