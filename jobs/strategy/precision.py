"""In which numbers a step is computed; the trained numbers themselves are fp32 under every setting."""

import torch

from jobs.spec.strategy import Strategy


def autocast(strategy: Strategy, device: torch.device) -> torch.autocast:
    """Where a forward pass runs: with bf16, products of matrices are computed in it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=strategy.precision == "bf16")


def set_tf32(allowed: bool) -> None:
    """Whether GPUs may round the inputs of fp32 products to 10 bits; torch's own default allows it in convolutions."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
