"""The products a potential is made of, behind an interface so that a faster one can take their place."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from equimodels.ops.cross import CrossProduct
from equimodels.ops.gaunt import GauntProduct
from equimodels.ops.gaunt_convolution import GauntConvolution
from equimodels.ops.gaunt_power import GauntPower


class Products(Protocol):
    """Makes the products of a potential. The modules hold no parameters, so weights do not depend on which is taken."""

    def convolution(self, lmax_in: int, lmax_filter: int, lmax_out: int) -> nn.Module:
        """A module called like `GauntConvolution.forward`."""
        ...

    def power(self, lmax_in: int, lmax_out: int, order: int) -> nn.Module:
        """A module called like `GauntPower.forward`."""
        ...

    def pointwise(self, lmax1: int, lmax2: int, lmax_out: int) -> nn.Module:
        """A module called like `GauntProduct.forward`."""
        ...

    def bracket(self, lmax1: int, lmax2: int, lmax_out: int) -> nn.Module:
        """A module called like `CrossProduct.forward`."""
        ...


class Convolution(Protocol):
    """How the convolution is called: see `GauntConvolution.forward`."""

    def __call__(
        self, features: Tensor, radial: Tensor, harmonics: Tensor, sender: Tensor, receiver: Tensor
    ) -> Tensor: ...


@dataclass(frozen=True)
class Quadrature:
    """Gaunt products by exact quadrature on the sphere.

    `degree_deficit` lowers the degree of the rules below the exact one: the negative control of the equivariance tests.
    """

    degree_deficit: int = 0

    def convolution(self, lmax_in: int, lmax_filter: int, lmax_out: int) -> nn.Module:
        """`GauntConvolution`, the form that `EdgeConvolution` takes too at all sizes of a potential."""
        degree = lmax_in + lmax_filter + lmax_out - self.degree_deficit
        return GauntConvolution(lmax_in, lmax_filter, lmax_out, max(degree, 0))

    def power(self, lmax_in: int, lmax_out: int, order: int) -> nn.Module:
        """`GauntPower`."""
        return GauntPower(lmax_in, lmax_out, order, max(order * lmax_in + lmax_out - self.degree_deficit, 0))

    def pointwise(self, lmax1: int, lmax2: int, lmax_out: int) -> nn.Module:
        """`GauntProduct`."""
        return GauntProduct(lmax1, lmax2, lmax_out, max(lmax1 + lmax2 + lmax_out - self.degree_deficit, 0))

    def bracket(self, lmax1: int, lmax2: int, lmax_out: int) -> nn.Module:
        """`CrossProduct`."""
        return CrossProduct(lmax1, lmax2, lmax_out, max(lmax1 + lmax2 + lmax_out - self.degree_deficit, 0))
