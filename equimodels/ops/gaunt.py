"""The Gaunt product: coefficients of the pointwise product of two functions on the sphere.

Shapes: `...` any, C channels, n_i = (lmax_i + 1)^2 coefficients of spherical harmonics.
Source: Luo, Chen and Krishnapriyan 2024 (arXiv 2401.10216) for the operation; evaluated by exact quadrature on the
sphere instead of their Fourier transform, as Xie et al. 2025 (arXiv 2506.13523) recommend.
"""

from typing import Literal, get_args

from torch import Tensor, nn

from equimodels.errors import require
from equimodels.ops.gaunt_dense import DenseProduct, gaunt_coefficients
from equimodels.ops.gaunt_fourier import FourierProduct
from equimodels.ops.gaunt_grid import pointwise
from equimodels.ops.per_degree import mix_channels, per_degree
from equimodels.ops.spherical_harmonics import MAX_DEGREE
from equimodels.ops.trilinear import Trilinear
from equimodels.ops.trilinear_blocks import product

Backend = Literal["quadrature", "dense", "fourier"]


class GauntProduct(nn.Module):
    """z = x * y as functions on the sphere, cut off at degree `lmax_out`: every path (l1, l2, l3) with l1+l2+l3 even.

    The harmonics are component-normalized (mean square 1 on the sphere), so the coefficient of Y_00 is the mean of a
    function. The weights of the paths are tied: `scale` of each degree of x, y and z, a choice of rank one over the
    paths, not free weights.

    backend: `quadrature` evaluates both functions on a grid, multiplies, and goes back; `dense` contracts with the
    Gaunt table, O(L^6), for small degrees; `fourier` is the published route by FFT, a reference. All agree to
    rounding. `degree` is that of the quadrature rule: lmax1 + lmax2 + lmax_out, the default, is exact, and with a lower
    one nothing is equivariant. Any number of rows needs bounded memory beside operands and result, with gradients too.
    Raises SettingError for an lmax outside 0..12, a degree without a rule or with another backend, an unknown backend.
    """

    def __init__(
        self, lmax1: int, lmax2: int, lmax_out: int, degree: int | None = None, *, backend: Backend = "quadrature"
    ) -> None:
        super().__init__()
        for name, lmax in (("lmax1", lmax1), ("lmax2", lmax2), ("lmax_out", lmax_out)):
            require(0 <= lmax <= MAX_DEGREE, name, lmax, f"0 to {MAX_DEGREE}")
        require(backend in get_args(Backend), "backend", backend, ", ".join(get_args(Backend)))
        require(
            degree is None or backend == "quadrature", "degree", degree, f"none with backend {backend}, which is exact"
        )
        self.lmax1, self.lmax2, self.lmax_out, self.backend = lmax1, lmax2, lmax_out, backend
        self.degree = lmax1 + lmax2 + lmax_out if degree is None else degree
        self.product: nn.Module
        if backend == "quadrature":
            self.product = pointwise(lmax1, lmax2, lmax_out, self.degree)
        elif backend == "dense":
            self.product = DenseProduct(gaunt_coefficients(lmax1, lmax2, lmax_out))
        else:
            self.product = FourierProduct(lmax1, lmax2, lmax_out)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        scale1: Tensor | None = None,
        scale2: Tensor | None = None,
        scale_out: Tensor | None = None,
        mix: Tensor | None = None,
    ) -> Tensor:
        """x: (..., C, n1), y: (..., C, n2), broadcast against each other. Returns (..., C, n_out).

        scale1, scale2, scale_out: weights per degree, (lmax + 1,) or (C, lmax + 1) with the lmax of x, y and z.
        mix: (C, D) or (lmax_out + 1, C, D) mixes the channels of the result to D, the same for all degrees or each.
        """
        x, y = per_degree(x, scale1), per_degree(y, scale2)
        z = product(self.product, x, y) if isinstance(self.product, Trilinear) else self.product(x, y)
        z = per_degree(z, scale_out)
        return z if mix is None else mix_channels(z, mix)
