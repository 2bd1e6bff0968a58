"""One rank under torchrun, for `strategies.py`: strategies_rank.py parity|cost CPU_OR_CUDA SIZE_OR_TURNS OUT."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from strategies import IMAGES, PLAIN, STEPS, STRETCH
from strategies_tasks import SMALL_TRANSFORMER, TRANSFORMER, Plain, Potential, Trainer, Transformer, engine_of
from torch import Tensor
from torchrun import CPU_RANKS, joined
from two_phase import in_turn
from two_phase_cases import QUICK, SIZES, allocated

from jobs.strategy.build import quiet_environment
from jobs.strategy.engine import Engine
from jobs.world import World

ROUNDING = "one process, batches in two parts"  # what rounding alone does
ALL_SHARDED = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}  # DeepSpeed leaves small ones whole
STRATEGIES: dict[str, dict[str, Any]] = {
    "DDP": {"kind": "ddp"},
    **{f"ZeRO-{stage}": {"kind": "deepspeed", "zero_stage": stage} for stage in range(3)},
    "ZeRO-3": {"kind": "deepspeed", "zero_stage": 3, "deepspeed": ALL_SHARDED},
    "FSDP2": {"kind": "fsdp"},
}
BLOCKS = {"kind": "fsdp", "units": "blocks"}
WITH_FORCES = {**STRATEGIES, "FSDP2 blocks, two phases": {**BLOCKS, "force_gradient": "two_phase"}}
WITHOUT = {**STRATEGIES, "FSDP2 blocks": BLOCKS}


def parity(size: str, world: World, device: torch.device) -> list[dict[str, Any]]:
    """The largest difference of a parameter to plain torch in one process, after the same steps on the same batches."""
    sizes = {one.name: one for one in (*SIZES, *QUICK)}
    potential = Potential(sizes[size], world.size)
    transformer = Transformer(SMALL_TRANSFORMER, IMAGES, world.size)
    rows = []
    for task, strategies in ((potential, WITH_FORCES), (transformer, WITHOUT)):
        alone = Trainer(lambda t=task: Plain(t.model().to(device), parallel=False), task, World(), device)
        parts = Trainer(lambda t=task: Plain(t.model().to(device), parallel=False), task, World(), device)
        for step in range(STEPS):
            alone.take(step)
            parts.take(step, parts=CPU_RANKS)
        wanted, other = (
            {n: p.detach().view(-1) for n, p in one.engine.module.named_parameters()} for one in (alone, parts)
        )
        found = {
            ROUNDING: max(float((other[name] - wanted[name]).abs().max()) for name in wanted if wanted[name].numel())
        }
        for name, strategy in strategies.items():
            trainer = Trainer(lambda t=task, s=strategy: engine_of(t, s, world, device), task, world, device)
            for step in range(STEPS):
                trainer.take(step)
            found[name] = _difference(trainer.engine, wanted, world)
        rows += [{"model": task.name, "strategy": name, "largest difference": one} for name, one in found.items()]
    return rows


def _difference(engine: Engine, wanted: dict[str, Tensor], world: World) -> float:
    """Over what all ranks report. Raises AssertionError if that is not every number once."""
    pieces = engine.values()
    worst = [float((p.values - wanted[n][p.start : p.stop]).abs().max()) for n, p in pieces.items() if len(p.values)]
    found = world.gather((max(worst, default=0.0), sum(len(p.values) for p in pieces.values())))
    assert sum(count for _, count in found) == sum(len(values) for values in wanted.values())
    return float(max(difference for difference, _ in found))


def cost(turns: str, world: World, device: torch.device) -> dict[str, Any]:
    """Seconds of steps by the clock and of a processor, and bytes held between steps, of every strategy."""
    task = Transformer(TRANSFORMER, IMAGES, world.size)
    trainers: dict[str, Trainer] = {}
    memory: dict[str, dict[str, float]] = {}

    def steps(name: str, count: int) -> None:
        for step in range(count):
            trainers[name].take(step, lr=1e-12)
        if device.type == "cuda":
            torch.cuda.synchronize()
        world.barrier()

    makers: dict[str, Callable[[], Any]] = {PLAIN: lambda: Plain(task.model().to(device), parallel=True)}
    makers |= {name: lambda s=strategy: engine_of(task, s, world, device) for name, strategy in WITHOUT.items()}
    for name, make in makers.items():
        before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        trainers[name] = Trainer(make, task, world, device)
        steps(name, 1)
        memory[name] = _held(trainers[name].engine)
        if device.type == "cuda":
            held = round((torch.cuda.memory_allocated() - before) / 2**20, 1)
            memory[name] |= {"allocated": held, "allocated in a step": allocated(lambda n=name: steps(n, 1))}
    found = in_turn({name: lambda n=name: steps(n, STRETCH) for name in trainers}, int(turns))
    return {
        "times": _of_all_ranks(world.gather(found)),
        "memory": world.gather(memory),
        "numbers": sum(p.numel() for p in task.model().parameters()),
    }


def _of_all_ranks(found: list[dict[str, list[tuple[float, float]]]]) -> dict[str, list[tuple[float, float]]]:
    """Seconds a step: by the clock of the slowest rank, and of the processors of all of them together."""
    times = {}
    for name in found[0]:
        turns = zip(*(of[name] for of in found), strict=True)
        times[name] = [(max(w for w, _ in t) / STRETCH, sum(own for _, own in t) / STRETCH) for t in turns]
    return times


def _held(engine: Any) -> dict[str, float]:
    """Bytes of this rank: the optimizer's moments, and all storage of parameters and masters."""
    parameters = list(engine.module.parameters())
    tensors = [p.to_local() if hasattr(p, "to_local") else p.data for p in parameters]
    tensors += [p.ds_tensor.data for p in parameters if hasattr(p, "ds_tensor")]
    if not isinstance(engine, Plain):
        tensors += [piece.values for piece in engine.values().values()]
    optimizer = engine.optimizer if isinstance(engine, Plain) else engine._optimizer
    optimizer = getattr(optimizer, "optimizer", optimizer)  # DeepSpeed's has torch's inside
    moments = [t for of in optimizer.state.values() for t in of.values() if isinstance(t, Tensor) and t.ndim]
    return {"moments": _bytes(moments), "parameters": _bytes(tensors)}


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Of the storages of tensors, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def main(what: str, device: str, setting: str, out: str) -> None:
    """One rank; the first one writes the answer."""
    with tempfile.TemporaryDirectory() as scratch, joined(device) as (world, place):
        quiet_environment(Path(scratch), gpu=device == "cuda")
        answer = {"parity": parity, "cost": cost}[what](setting, world, place)
        ray = any(world.gather("ray" in sys.modules))
        if world.leads:
            Path(out).write_text(json.dumps({what: answer, "ray": ray}))


if __name__ == "__main__":
    main(*sys.argv[1:])
