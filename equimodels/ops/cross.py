"""The antisymmetric half of the product of two functions on the sphere: what the Gaunt product cannot reach.

Shapes: `...` any, C channels, n_i = (lmax_i + 1)^2 coefficients of spherical harmonics.
"""

from torch import Tensor, nn

from equimodels.errors import require
from equimodels.ops.bracket_grid import bracket
from equimodels.ops.per_degree import mix_channels, per_degree
from equimodels.ops.spherical_harmonics import MAX_DEGREE
from equimodels.ops.trilinear_blocks import product


class CrossProduct(nn.Module):
    """z = {x, y}, the Poisson bracket of functions on the sphere: every path (l1, l2, l3) with l1+l2+l3 odd.

    Of degree one it is the cross product of vectors: sqrt(3) (a x b) for coefficients a and b. The result has the
    opposite of natural parity (degree l changes sign as (-1)^(l+1) under inversion): keep it apart from features of
    natural parity wherever reflections matter. Coefficients of the paths are tied, as for `GauntProduct`, and grow like
    l1 l2.

    `degree` is that of the quadrature rule; lmax1 + lmax2 + lmax_out, the default, is exact, two less is not
    equivariant. Any number of rows needs bounded memory. Raises SettingError for an lmax outside 0..12 or a degree
    without a rule.
    """

    def __init__(self, lmax1: int, lmax2: int, lmax_out: int, degree: int | None = None) -> None:
        super().__init__()
        for name, lmax in (("lmax1", lmax1), ("lmax2", lmax2), ("lmax_out", lmax_out)):
            require(0 <= lmax <= MAX_DEGREE, name, lmax, f"0 to {MAX_DEGREE}")
        self.lmax1, self.lmax2, self.lmax_out = lmax1, lmax2, lmax_out
        self.degree = lmax1 + lmax2 + lmax_out if degree is None else degree
        self.product = bracket(lmax1, lmax2, lmax_out, self.degree)

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

        scale1, scale2, scale_out, mix: as for `GauntProduct.forward`.
        """
        z = product(self.product, per_degree(x, scale1), per_degree(y, scale2))
        z = per_degree(z, scale_out)
        return z if mix is None else mix_channels(z, mix)
