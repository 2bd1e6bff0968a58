"""Combinations of a training spec that cannot work: said before anything starts, each with the nearest that does.

What depends on the parts of the model is in `model_refusals`. What is refused in neither works; a test goes through
the grid of combinations and takes a step with every one.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import UserError
from jobs.spec.train import TrainSpec
from jobs.strategy.zero_config import FIXED, OURS, deepspeed_config, taken


@dataclass(frozen=True)
class Refusal:
    """A setting that cannot be: where it is, why not, and what comes nearest."""

    path: str
    why: str
    nearest: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}; {self.nearest}"


def is_conservative(model: Any) -> bool:
    """Whether a model, or a class of models, returns forces that are the gradient of its energy."""
    return bool(getattr(model, "conservative", False))


def refusals(spec: TrainSpec, *, conservative: bool, cuda: bool) -> list[Refusal]:
    """Everything that cannot work. conservative: see `is_conservative`; cuda: whether workers have GPUs."""
    found = [*_sharding(spec), *_offload(spec, cuda), *_optimizer(spec), *_passthrough(spec)]
    return [*found, *(_forces(spec) if conservative else _no_forces(spec))]


def insist(found: Sequence[Refusal]) -> None:
    """Raise UserError where there are refusals."""
    if found:
        raise UserError("\n".join(map(str, found)))


def _sharding(spec: TrainSpec) -> Iterator[Refusal]:
    strategy = spec.strategy
    if strategy.units == "blocks" and strategy.kind != "fsdp":
        why = f"{strategy.kind} does not gather parameters block by block"
        yield Refusal("strategy.units", why, "use kind: fsdp, or units: root")
    if strategy.zero_stage is not None and strategy.kind != "deepspeed":
        why = f"{strategy.kind} has no stages"
        yield Refusal("strategy.zero_stage", why, "use kind: deepspeed, or leave it out (null)")


def _forces(spec: TrainSpec) -> Iterator[Refusal]:
    """Of models whose forces are a gradient: a loss on them needs a second derivative."""
    strategy = spec.strategy
    two_phase = strategy.force_gradient == "two_phase"
    if two_phase and strategy.stage == 3:
        why = "ZeRO-3 lets go of parameters that the second phase still needs"
        yield Refusal("strategy.force_gradient", why, "use kind: fsdp, or force_gradient: double_backward")
    if not two_phase and strategy.kind == "fsdp" and strategy.units == "blocks":
        why = "the second backward pass needs parameters of blocks that the first has let go of"
        yield Refusal("strategy.units", why, "use force_gradient: two_phase, or units: root")
    if strategy.compile:
        why = (
            "compiled blocks cannot be differentiated forward"
            if two_phase
            else "compiled blocks cannot be differentiated twice, which the loss on forces needs"
        )
        yield Refusal("strategy.compile", why, "use compile: false")


def _no_forces(spec: TrainSpec) -> Iterator[Refusal]:
    if spec.strategy.force_gradient == "two_phase":
        why = "the model has no forces that are a gradient of its energy"
        yield Refusal("strategy.force_gradient", why, "use force_gradient: double_backward")


def _offload(spec: TrainSpec, cuda: bool) -> Iterator[Refusal]:
    strategy = spec.strategy
    if strategy.offload == "none":
        return
    if not strategy.stage:
        how = "ZeRO-0" if strategy.kind == "deepspeed" else strategy.kind
        yield Refusal("strategy.offload", f"{how} keeps its state on the device", "use kind: deepspeed, zero_stage: 1")
    if not cuda:
        yield Refusal("strategy.offload", "without GPUs everything is in main memory already", "use offload: none")


def _optimizer(spec: TrainSpec) -> Iterator[Refusal]:
    strategy = spec.strategy
    if spec.optimizer.name == "muon" and (strategy.kind == "fsdp" or strategy.stage):
        how = "FSDP" if strategy.kind == "fsdp" else f"ZeRO-{strategy.stage}"
        why = f"Muon needs whole matrices, and {how} cuts them"
        yield Refusal("optimizer.name", why, "use strategy.kind: ddp, or name: adamw")


def _passthrough(spec: TrainSpec) -> Iterator[Refusal]:
    given = spec.strategy.deepspeed
    if not given:
        return
    if spec.strategy.kind != "deepspeed":
        yield Refusal("strategy.deepspeed", f"kind is {spec.strategy.kind}", "use kind: deepspeed, or leave it out")
        return
    ours = list(taken(given))
    for path, why in ours:
        nearest = f"set {OURS[path]}" if path in OURS else "leave it out"
        yield Refusal(f"strategy.deepspeed.{path}", why if path in FIXED else "the spec sets it itself", nearest)
    if ours:
        return
    from jobs.strategy.zero import read_config  # imports DeepSpeed, which takes seconds: only where it is asked

    try:
        known = read_config(deepspeed_config(spec, spec.resources.most))
    except (ValueError, TypeError, AssertionError, KeyError, AttributeError) as error:
        yield Refusal("strategy.deepspeed", f"DeepSpeed does not accept it: {error}", "see its documentation")
        return
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            nearest = f"did you mean {close[0]}?" if close else "leave it out"
            yield Refusal(f"strategy.deepspeed.{key}", "DeepSpeed has no such setting", nearest)
