"""How exact a test may ask a result to be, by dtype. One place for the whole project."""

import torch

EQUIVARIANCE = {torch.float32: 1e-4, torch.float64: 1e-10}  # relative to the largest value
DTYPES = tuple(EQUIVARIANCE)
