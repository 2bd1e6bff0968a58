"""Floating-point operations of a training step, and how much of a GPU's peak they are.

Counted are matrix products, convolutions and attention, forward and backward, by the formulas of
torch.utils.flop_counter; a multiply-add is two. Element-wise work is not counted, so a model made of it looks idle.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

COUNTED_STEPS = 2

# Dense peaks in FLOP/s by what the device calls itself, the most special name first: NVIDIA's data sheets of H200 SXM,
# H100 SXM, PCIe and NVL, A100. tf32 and bf16 on tensor cores, fp32 without them.
PEAKS: tuple[tuple[str, dict[str, float]], ...] = (
    ("H200 NVL", {"bf16": 836e12, "tf32": 418e12, "fp32": 60e12}),
    ("H200", {"bf16": 989.5e12, "tf32": 494.7e12, "fp32": 67e12}),
    ("H100 NVL", {"bf16": 835.5e12, "tf32": 417.5e12, "fp32": 60e12}),
    ("H100 PCIe", {"bf16": 756e12, "tf32": 378e12, "fp32": 51e12}),
    ("H100", {"bf16": 989.5e12, "tf32": 494.7e12, "fp32": 67e12}),
    ("A100", {"bf16": 312e12, "tf32": 156e12, "fp32": 19.5e12}),
)


class FlopCount:
    """Counts the first steps of an attempt, as they are executed, and estimates the others by what they hold.

    Counting slows the step that is counted. Under torch.compile the operations are inside kernels that nothing sees
    from outside: `on=False`, and every step has 0.
    """

    def __init__(self, *, on: bool = True, steps: int = COUNTED_STEPS) -> None:
        self._left = steps if on else 0
        self._counted = self._work = 0.0
        self._now: float | None = None

    @contextmanager
    def counting(self) -> Iterator[None]:
        """The forward and backward passes of one step of this rank run inside."""
        if not self._left:
            yield
            return
        self._left -= 1
        with _Counter() as counter:
            yield
        self._now = counter.flops

    def of(self, work: float) -> float:
        """FLOPs of the step that was just taken. work: what it held, in anything that its cost grows with: atoms."""
        if self._now is not None:
            flops, self._now = self._now, None
            self._counted += flops
            self._work += work
            return flops
        return self._counted / self._work * work if self._work else 0.0


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation, those of the backward pass too.

    torch's own FlopCounterMode would add hooks to modules, which strategies that shard parameters do not expect.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out


_ATEN = torch.ops.aten
# Attention on CPUs is missing in torch's own table; its arguments begin like those on GPUs.
_FORMULAS: dict[Any, Any] = {
    **flop_registry,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: flop_registry[_ATEN._scaled_dot_product_flash_attention],
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _ATEN._scaled_dot_product_flash_attention_backward
    ],
}


def peak_flops(device: str, precision: str) -> float | None:
    """FLOP/s that a GPU of this name can reach at `fp32`, `tf32` or `bf16`; None for what is not in the table."""
    return next((peaks.get(precision) for name, peaks in PEAKS if name in device), None)


def peak_of(device: torch.device, *, bf16: bool, tf32: bool) -> float | None:
    """The peak of this device at the precision of the run; None on a CPU, where it would mean little."""
    if device.type != "cuda":
        return None
    return peak_flops(torch.cuda.get_device_name(device), "bf16" if bf16 else "tf32" if tf32 else "fp32")
