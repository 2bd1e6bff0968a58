"""The learning rate as a pure function of the step."""

import math

from jobs.spec.train import Schedule


def learning_rate(step: int, schedule: Schedule, *, peak: float) -> float:
    """Rate for the optimizer step number `step` (from 0): linear warm-up, then cosine decay or constant."""
    if step < schedule.warmup:
        return peak * (step + 1) / schedule.warmup
    if schedule.decay == "constant":
        return peak
    progress = (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    floor = schedule.final_lr
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
