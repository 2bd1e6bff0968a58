"""The learning rate as a pure function of the step: linear warm-up, then one of three ways down."""

import math

from jobs.spec.optimizer import Schedule


def learning_rate(step: int, schedule: Schedule, *, peak: float) -> float:
    """Rate for the optimizer step number `step` (from 0).

    The warm-up reaches the peak with its last step. `cosine` then falls along half a cosine (Loshchilov and Hutter
    2017), `wsd` stays at the peak and falls linearly over the last `cooldown` of all steps (Hu et al. 2024), both so
    that the rate would be `final_lr` times the peak at step `steps`; `constant` stays.
    """
    if step < schedule.warmup:
        return peak * (step + 1) / schedule.warmup
    if schedule.decay == "constant":
        return peak
    begin = float(schedule.warmup)
    if schedule.decay == "wsd":
        begin = max(begin, (1 - schedule.cooldown) * schedule.steps)
    length = schedule.steps - begin
    progress = min(1.0, max(0.0, step - begin) / length) if length > 0 else 0.0
    left = 1 - progress if schedule.decay == "wsd" else 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (schedule.final_lr + (1 - schedule.final_lr) * left)
