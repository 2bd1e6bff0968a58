"""What a strategy cannot do with the model of a spec, which only the model itself tells: its blocks, its parameters."""

from collections.abc import Iterator

from torch import nn

from jobs.spec.strategy import Strategy
from jobs.spec.train import TrainSpec
from jobs.strategy.recompute import blocks
from jobs.strategy.refusals import Refusal


def concerns_model(strategy: Strategy) -> bool:
    """Whether it depends on the model's parts if this works: only then it is worth building one to see."""
    by_blocks = strategy.compile or strategy.recompute or strategy.units == "blocks"
    return by_blocks or strategy.stage == 3


def model_refusals(spec: TrainSpec, model: nn.Module) -> list[Refusal]:
    """Everything that cannot work with this model, which is whole, as it was assembled."""
    return [*_blocks(spec.strategy, model), *_empty(spec.strategy, model)]


def _blocks(strategy: Strategy, model: nn.Module) -> Iterator[Refusal]:
    asked = {"units": strategy.units == "blocks", "compile": strategy.compile, "recompute": strategy.recompute}
    if any(asked.values()) and not blocks(model):
        for name in [name for name, wanted in asked.items() if wanted]:
            other = "units: root" if name == "units" else f"{name}: false"
            yield Refusal(f"strategy.{name}", f"{type(model).__name__} has no list of blocks", f"use {other}")


def _empty(strategy: Strategy, model: nn.Module) -> Iterator[Refusal]:
    empty = [name for name, p in model.named_parameters() if not p.numel()]
    if empty and strategy.stage == 3:
        why = f"DeepSpeed cannot gather a parameter without numbers, and the model has {', '.join(empty)}"
        yield Refusal("strategy.zero_stage", why, "use zero_stage: 2, or kind: fsdp")
