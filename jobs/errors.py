"""Failures of a training run that a user should understand."""

from typing import Any


class TrainingDivergedError(RuntimeError):
    """The loss is not a finite number."""

    def __init__(self, step: int, rank: int, samples: list[str]) -> None:
        shown = ", ".join(samples[:8]) + (", ..." if len(samples) > 8 else "")
        super().__init__(
            f"the loss is not finite at step {step} on rank {rank} (samples {shown}); "
            "lower optimizer.params.lr or check these samples"
        )
        self.step, self.rank, self.samples = step, rank, samples

    def __reduce__(self) -> tuple[Any, ...]:
        return TrainingDivergedError, (self.step, self.rank, self.samples)
