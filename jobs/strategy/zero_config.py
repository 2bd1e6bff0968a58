"""DeepSpeed's configuration: what a training spec sets of it, and what may be given through `strategy.deepspeed`."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from jobs.spec.train import TrainSpec

# What the spec sets itself, by the path in DeepSpeed's configuration: where it is set, or why it cannot be.
OURS = {
    "train_batch_size": "data.batch",
    "train_micro_batch_size_per_gpu": "data.batch",
    "gradient_accumulation_steps": "strategy.accumulate",
    "managed_gradient_accumulation": "strategy.accumulate",
    "gradient_clipping": "strategy.gradient_clipping",
    "zero_optimization.stage": "strategy.zero_stage",
    "zero_optimization.offload_optimizer.device": "strategy.offload",
    "zero_optimization.cpu_offload": "strategy.offload",
    "bf16": "strategy.precision",
    "bfloat16": "strategy.precision",
    "fp16": "strategy.precision",
    "amp": "strategy.precision",
    "data_types": "strategy.precision",
    "torch_autocast": "strategy.precision",
    "activation_checkpointing": "strategy.recompute",
    "compile": "strategy.compile",
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "elasticity": "resources.workers",
    "seed": "seed",
}
# What the engine relies on.
FIXED = {
    "zero_allow_untested_optimizer": "the optimizer is torch's own",
    "zero_force_ds_cpu_optimizer": "the optimizer is torch's own",
    "steps_per_print": "the run has its own progress line",
    "checkpoint": "checkpoints are written by this service",
    "autotuning": "it starts runs of its own; a sweep does the same",
    "gradient_allreduce_op": "gradients are means",
    "zero_optimization.compute_grad_norm": "the norm decides whether a step is taken",
    "zero_optimization.offload_optimizer.nvme_path": "a state on disk cannot be read for checkpoints and averages",
    "zero_optimization.offload_param": "only the optimizer's state can be elsewhere, by strategy.offload",
    "zero_optimization.cpu_offload_param": "only the optimizer's state can be elsewhere, by strategy.offload",
    "zero_optimization.zero_hpz_partition_size": "checkpoints are written from one partition over all ranks",
    "zero_optimization.zenflow": "it applies gradients of other steps",
    "zero_optimization.legacy_stage1": "DeepSpeed has no such stage any more",
    "disable_allgather": "updated parameters are gathered in one way",
    "tensor_parallel": "workers share the batch, not layers",
    "hybrid_engine": "it is for models that generate text",
    "data_efficiency": "the run reads its own data",
}


def deepspeed_config(spec: TrainSpec, workers: int) -> dict[str, Any]:
    """The configuration of a run. Clipping is always explicit: DeepSpeed's own default is 1.0, silently."""
    strategy, micro_batches = spec.strategy, spec.accumulation(workers)
    shares = spec.resources.most * strategy.accumulate
    zero: dict[str, Any] = {"stage": strategy.stage}
    if strategy.stage in (1, 2) and not spec.resources.gpus_per_worker:
        # Gradients are not copied into one buffer first: a fifth of a step on CPUs, where nothing is fragmented by it.
        zero["contiguous_gradients"] = False
    if strategy.offload != "none":
        zero["offload_optimizer"] = {"device": strategy.offload}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": (spec.data.batch.counted or shares) // shares,
        "gradient_accumulation_steps": micro_batches,
        "zero_optimization": zero,
        # Under stage 0 the engine finds the norm itself, and clips by it: DeepSpeed would find it a second time.
        "gradient_clipping": strategy.gradient_clipping if strategy.stage else 0.0,
        # The optimizer is torch's own AdamW, on the CPU too: DeepSpeed's would have to be compiled first.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }
    return merged(config, strategy.deepspeed)


def merged(ours: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`ours` with everything that is given."""
    result = deepcopy(dict(ours))
    for key, value in given.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else deepcopy(value)
    return result


def taken(given: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Paths in what is given that may not be given, each with the reason."""
    for key, value in given.items():
        path = above + key
        if path in OURS:
            yield path, f"it is set by {OURS[path]}"
        elif path in FIXED:
            yield path, FIXED[path]
        elif isinstance(value, Mapping):
            yield from taken(value, path + ".")
