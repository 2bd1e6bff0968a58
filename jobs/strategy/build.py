"""From a training spec to the engine that executes its steps."""

import os
from pathlib import Path

import torch
from torch import nn

from jobs.spec.train import TrainSpec
from jobs.strategy.compiled import compile_blocks
from jobs.strategy.engine import Engine
from jobs.strategy.model_refusals import model_refusals
from jobs.strategy.precision import set_tf32
from jobs.strategy.recompute import recompute
from jobs.strategy.refusals import insist, is_conservative, refusals
from jobs.strategy.replicated import ReplicatedEngine
from jobs.strategy.zero import ZeroEngine
from jobs.world import World


def quiet_environment(scratch: Path, *, gpu: bool) -> None:
    """Settings that DeepSpeed reads from the environment when it is imported."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if gpu else "cpu")
    # Own folder: a process killed while it compiles leaves a lock that every later rank would wait for.
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(scratch / "torch-extensions"))
    os.environ.setdefault("DS_LOG_LEVEL", "ERROR")


def device_of(rank_on_node: int, *, gpu: bool) -> torch.device:
    """The device of a worker."""
    return torch.device("cuda", rank_on_node) if gpu else torch.device("cpu")


def make_engine(model: nn.Module, spec: TrainSpec, world: World, device: torch.device) -> Engine:
    """The engine of `spec.strategy` around `model`, which is on `device` already and changed in place.

    In several processes torch.distributed must be running, and for DeepSpeed in one process too. Raises UserError for
    what cannot work.
    """
    strategy, conservative = spec.strategy, is_conservative(model)
    insist(refusals(spec, conservative=conservative, cuda=device.type == "cuda"))
    insist(model_refusals(spec, model))
    set_tf32(strategy.tf32)
    if strategy.compile:
        compile_blocks(model)
    if strategy.recompute:
        recompute(model)
    engine: Engine
    if strategy.kind == "deepspeed":
        engine = ZeroEngine(model, spec, world, device, conservative=conservative)
    elif strategy.kind == "fsdp":
        from jobs.strategy.fsdp import FsdpEngine

        engine = FsdpEngine(model, spec, world, device)
    else:
        engine = ReplicatedEngine(model, spec, world, device)
    if strategy.force_gradient == "two_phase":
        from jobs.strategy.two_phase import two_phase

        engine = two_phase(engine, model)
    return engine
