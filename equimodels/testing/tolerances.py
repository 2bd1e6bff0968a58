"""How exact a test may ask a result to be, by dtype. One place for the whole project."""

import torch
from torch import Tensor

EQUIVARIANCE = {torch.float32: 1e-4, torch.float64: 1e-10}  # relative to the largest value
DTYPES = tuple(EQUIVARIANCE)


def same(found: Tensor, expected: Tensor, tolerance: float, message: str, scale: float | None = None) -> None:
    """Raise AssertionError with `message` unless found is expected, relative to its largest value or to `scale`."""
    size = float(expected.abs().max()) if scale is None else scale
    error = float((found - expected).abs().max()) / size
    assert error <= tolerance, f"{message}: relative error {error:.1e}, allowed {tolerance:.0e}"
