"""The exact loss of flow matching on Gaussian data, which nothing linear can beat on any data.

For x with covariance eigenvalues s and e ~ N(0, 1), the best linear predictor of v = e - x from x_t = (1 - t) x + t e
leaves, along each eigenvector, the variance of v less what its covariance with x_t explains:

    residual(s, t) = s + 1 - (t - (1 - t) s)^2 / ((1 - t)^2 s + t^2)

A held-out loss below the mean of it shows that structure beyond the covariance was learned; on Gaussian data a network
must come near it and cannot be below.
"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from equimodels.objectives.flow_matching import FlowMatchingConfig

REACH, NODES = 8.5, 2001  # of the integral over times, in standard deviations of the logit: 1e-16 is outside


def residual(s: Tensor, t: Tensor) -> Tensor:
    """Variance of v that the best linear predictor leaves. s: eigenvalues >= 0; t: times in (0, 1); broadcast."""
    covariance, variance = t - (1 - t) * s, (1 - t).square() * s + t.square()
    left: Tensor = s + 1 - covariance.square() / variance
    return left


def linear_gaussian_floor(eigenvalues: ArrayLike | Tensor, config: FlowMatchingConfig) -> float:
    """Mean of `residual` over the eigenvalues and over the times of `config`.

    eigenvalues: (d,) of the covariance of the standardised images, all d = C H W of them.
    """
    s = torch.as_tensor(np.asarray(eigenvalues), dtype=torch.float64).clamp(min=0)  # rounding leaves -1e-16
    # The trapezoidal rule: for a smooth integrand that vanishes at both ends it converges faster than any power.
    n = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
    weight = torch.exp(-(n**2) / 2) * ((n[1] - n[0]) / math.sqrt(2 * math.pi))
    t = torch.sigmoid(config.logit_mean + config.logit_std * n)
    mean_residual = residual(s, t[:, None]).mean(dim=1)
    return float((weight * mean_residual).sum())


def covariance_eigenvalues(standardised: Tensor) -> Tensor:
    """Eigenvalues of the covariance of images (B, C, H, W), ascending. Returns (C H W,), float64."""
    flat = standardised.flatten(1).double()
    centred = flat - flat.mean(dim=0)
    eigenvalues: Tensor = torch.linalg.eigvalsh(centred.T @ centred / len(flat))
    return eigenvalues
