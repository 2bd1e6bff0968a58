"""What powers of a function on the sphere cannot say of an atom's surroundings: products with paths of odd degree.

Shapes: N atoms, C channels, n_i = (lmax_i + 1)^2 coefficients.
"""

import copy

import torch
from torch import Tensor, nn

from equimodels.models.degree_linear import DegreeLinear
from equimodels.models.products import Products


class AntisymmetricBlock(nn.Module):
    """B = P1 * P2 with P = {A1, A2}: Poisson brackets of mixed channels of A, and their pointwise product.

    A bracket has the opposite of natural parity, the product of two has natural parity again: reflections stay exact.
    B is of order four in A; its paths go over odd sums l1 + l2 + l3, which pointwise powers leave out.
    """

    def __init__(self, lmax: int, lmax_out: int, channels: int, products: Products) -> None:
        super().__init__()
        self.bracket = products.bracket(lmax, lmax, lmax)
        self.pointwise = products.pointwise(lmax, lmax, lmax_out)
        self.mix = nn.ModuleList(DegreeLinear(lmax, channels, channels) for _ in range(4))
        self.update = DegreeLinear(lmax_out, channels, channels)
        # With independent inputs of unit variance, both products then give unit variance.
        widths = (lmax + 1) ** 2, (lmax + 1) ** 2
        self.inverse_rms = 1 / (_rms(self.bracket, *widths) ** 2 * _rms(self.pointwise, *widths))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, n). Returns (N, C, n_out)."""
        one, two, three, four = (mix(x) for mix in self.mix)
        product: Tensor = self.pointwise(self.bracket(one, two), self.bracket(three, four))
        updated: Tensor = self.update(product * self.inverse_rms)
        return updated


def _rms(product: nn.Module, n1: int, n2: int) -> float:
    """Root mean square of the result for inputs of unit variance, in float64 whatever the default."""
    one, two = (torch.eye(n, dtype=torch.float64) for n in (n1, n2))
    with torch.no_grad():
        table = copy.deepcopy(product).double()(one[:, None, :], two[None, :, :])
    return float(table.square().sum(dim=(0, 1)).mean().sqrt())
