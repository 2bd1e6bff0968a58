"""How far a run is and how fast it goes: the numbers that people watch."""

import resource
import sys
import time

import torch

from jobs.data.batches import Batches


class Pace:
    """Times the steps of one attempt, which began after `first` steps."""

    def __init__(self, first: int, total: int, training: Batches) -> None:
        self._started, self._first, self._total = time.monotonic(), first, total
        self._training, self._read_before = training, training.consumed

    def position(self, done: int) -> dict[str, float]:
        """Where the run is after `done` steps, and its mean pace since this attempt began, evaluations included."""
        seconds, training = time.monotonic() - self._started, self._training
        return {
            "step": done,
            "epoch": training.consumed / training.samples,
            "samples": training.consumed,
            "samples_per_second": (training.consumed - self._read_before) / seconds,
            "seconds_per_step": seconds / (done - self._first),
            "seconds_left": (self._total - done) * seconds / (done - self._first),
        }


def memory_used(device: torch.device) -> int:
    """Most bytes that this process has held so far: of the GPU's memory if it uses one, of main memory otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
