"""How a training run ends early, in words that a user should understand. Each survives pickling."""

from typing import Any


class TrainingDivergedError(RuntimeError):
    """More steps had to be left out than the guard's budget allows."""

    def __init__(self, step: int, rank: int, samples: list[str], *, norm: float, skipped: int) -> None:
        shown = ", ".join(samples[:8]) + (", ..." if len(samples) > 8 else "")
        super().__init__(
            f"the gradients have norm {norm:.3g} at step {step}, and {skipped} steps were left out so far, more than "
            f"guard.budget allows; the batch with the largest loss is that of rank {rank} (samples {shown}): "
            "lower optimizer.params.lr or check these samples"
        )
        self.step, self.rank, self.samples, self.norm, self.skipped = step, rank, samples, norm, skipped

    def __reduce__(self) -> tuple[Any, ...]:
        return _diverged, (self.step, self.rank, self.samples, self.norm, self.skipped)


def _diverged(step: int, rank: int, samples: list[str], norm: float, skipped: int) -> TrainingDivergedError:
    return TrainingDivergedError(step, rank, samples, norm=norm, skipped=skipped)


class PreemptedError(RuntimeError):
    """The run was asked to stop; everything up to `step` is in a committed checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__(f"asked to stop; a checkpoint after step {step} is committed")
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:
        return PreemptedError, (self.step,)
