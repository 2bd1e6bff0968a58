"""One rank under torchrun, for `service_overhead.py`: service_overhead_rank.py LOOP TASK OUT.

LOOP is `ours`, or a loop as Accelerate or Fabric asks for it, around the same model, batches, objective and optimizer.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torchrun import joined

from cluster.store import open_store
from equimodels.assemble import assemble, settings
from equimodels.components import objectives
from jobs.build import ResolvedTrain, dataset_of, training_batches
from jobs.spec.train import TrainSpec
from jobs.strategy.build import device_of
from jobs.worker import Assignment, work
from jobs.world import World

Parts = tuple[Callable[..., Any], Callable[[torch.Tensor], None], Callable[[], Any], torch.optim.Optimizer]


def with_accelerate(model: nn.Module, optimizer: torch.optim.Optimizer, spec: TrainSpec) -> Parts:
    """Forward, backward, clipping and the optimizer, as `Accelerator.prepare` gives them."""
    from accelerate import Accelerator

    options: dict[str, Any] = {"cpu": not spec.resources.gpus_per_worker}
    clipping = spec.strategy.gradient_clipping
    if spec.strategy.kind == "deepspeed":
        from accelerate import DeepSpeedPlugin

        config = {
            "train_micro_batch_size_per_gpu": (spec.data.batch.counted or 0) // spec.resources.most,
            "gradient_accumulation_steps": 1,
            "zero_optimization": {"stage": spec.strategy.zero_stage},
            "gradient_clipping": clipping,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
        }
        options["deepspeed_plugin"] = DeepSpeedPlugin(hf_ds_config=config)
    if spec.strategy.kind == "fsdp":
        from accelerate import FullyShardedDataParallelPlugin

        options["fsdp_plugin"] = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap")
    accelerator = Accelerator(**options)
    wrapped, prepared = accelerator.prepare(model, optimizer)
    return wrapped, accelerator.backward, lambda: accelerator.clip_grad_norm_(wrapped.parameters(), clipping), prepared


def with_fabric(model: nn.Module, optimizer: torch.optim.Optimizer, spec: TrainSpec) -> Parts:
    """The same as `Fabric.setup` gives them."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    strategy: Any = DDPStrategy()
    if spec.strategy.kind == "fsdp":
        from torch.distributed.fsdp import fully_shard

        strategy = ModelParallelStrategy(lambda whole, mesh: fully_shard(whole, mesh=mesh["data_parallel"]))
    accelerator = "cuda" if spec.resources.gpus_per_worker else "cpu"
    fabric = Fabric(accelerator=accelerator, devices=spec.resources.most, strategy=strategy)
    fabric.launch()
    if spec.strategy.kind == "fsdp":
        model = fabric.setup_module(model)
        optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), lr=spec.optimizer.params.lr))
    else:
        model, optimizer = fabric.setup(model, optimizer)
    clipping = spec.strategy.gradient_clipping
    return model, fabric.backward, lambda: fabric.clip_gradients(model, optimizer, max_norm=clipping), optimizer


def peer(task: dict[str, Any], wrap: Callable[..., Parts], rank: int, device: torch.device) -> list[float]:
    """Train; the Unix time of the end of each step."""
    resolved = ResolvedTrain.from_json(task["resolved"])
    spec = resolved.spec
    training = training_batches(dataset_of(open_store(task["store"]), resolved), spec, World(rank, spec.resources.most))
    torch.manual_seed(spec.seed)
    model = assemble(resolved.description).to(device)
    config = settings(objectives, spec.objective.name, spec.objective.params)
    objective: Any = objectives.find(spec.objective.name).target(config, resolved.description.facts)
    forward, backward, clip, optimizer = wrap(model, torch.optim.AdamW(model.parameters(), lr=1e-5), spec)
    times, generator = [], torch.Generator()
    model.train()
    for _, batch in zip(range(spec.schedule.steps), training, strict=False):
        loss, _ = objective(forward, batch.to(device), generator)
        backward(loss)
        clip()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.time())
    return times


def main(loop: str, task: str, out: str) -> None:
    """One rank, from the environment that torchrun gives."""
    given, rank = json.loads(Path(task).read_text()), int(os.environ["RANK"])
    kind = "cuda" if ResolvedTrain.from_json(given["resolved"]).spec.resources.gpus_per_worker else "cpu"
    if loop == "ours":
        with joined(kind) as (world, device):
            work(Assignment(**given), world, rank_on_node=device.index or 0)
            return
    torch.set_num_threads(1)
    device = device_of(int(os.environ["LOCAL_RANK"]), gpu=kind == "cuda")
    if kind == "cuda":
        torch.cuda.set_device(device)
    times = peer(given, {"accelerate": with_accelerate, "fabric": with_fabric}[loop], rank, device)
    if rank == 0:
        Path(out).write_text(json.dumps(times))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
