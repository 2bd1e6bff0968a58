"""How many workers a run may have: those that share a step's micro-batches evenly. Pure."""

from jobs.spec.train import TrainSpec


def sizes(spec: TrainSpec) -> list[int]:
    """The numbers of workers on which a step sees the same micro-batches, from the smallest to the largest."""
    shares = spec.resources.most * spec.strategy.accumulate
    return [number for number in range(spec.resources.least, spec.resources.most + 1) if shares % number == 0]


def larger(possible: list[int], now: int) -> int | None:
    """The next larger size, or None."""
    return next((size for size in possible if size > now), None)
