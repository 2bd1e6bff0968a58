"""DeepSpeed ZeRO stages 0, 1 and 2 (Rajbhandari et al. 2020). The only file that imports deepspeed.

Forces come from a second backward pass inside the model's forward, so the engine sees an ordinary loss.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jobs.spec.train import Optimizer, Strategy
from jobs.strategy.single import adamw
from jobs.world import World

TAG = "state"


def deepspeed_config(strategy: Strategy, *, micro_batch: int) -> dict[str, Any]:
    """DeepSpeed's configuration of a strategy. Clipping is always explicit: its own default is 1.0, silently."""
    return {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": strategy.zero_stage},
        "gradient_clipping": strategy.gradient_clipping,
        "bf16": {"enabled": strategy.precision == "bf16"},
        # The optimizer is torch's own AdamW, on the CPU too: DeepSpeed's would have to be compiled first.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }


def quiet_environment(scratch: Path, *, gpu: bool) -> None:
    """Settings that DeepSpeed reads from the environment when it is imported."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if gpu else "cpu")
    # Own folder: a process killed while it compiles leaves a lock that every later rank would wait for.
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(scratch / "torch-extensions"))
    os.environ.setdefault("DS_LOG_LEVEL", "ERROR")


class ZeroEngine:
    """A DeepSpeed engine behind the loop's interface; torch.distributed is running already."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, strategy: Strategy, world: World, *, batch: int) -> None:
        import deepspeed

        # An operator for shared-memory reductions that takes minutes to compile and is not needed.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.utils.logger.setLevel("ERROR")
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model,
            optimizer=adamw(model, optimizer),
            dist_init_required=False,
            config=deepspeed_config(strategy, micro_batch=batch // world.size),
        )

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self._engine.module
        return module

    def forward(self, *inputs: Any) -> Any:
        return self._engine(*inputs)

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)

    def step(self, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag=TAG)

    def load(self, folder: Path) -> None:
        # DeepSpeed's files are pickles. They are read only after the digests in this run's own COMMIT.json
        # have been checked, so what is unpickled is what our ranks wrote.
        loaded, _ = self._engine.load_checkpoint(str(folder), tag=TAG)
        if loaded is None:
            raise RuntimeError(f"DeepSpeed found no state in {folder}")


def device_of(rank_on_node: int, *, gpu: bool) -> torch.device:
    """The device of a worker."""
    return torch.device("cuda", rank_on_node) if gpu else torch.device("cpu")
