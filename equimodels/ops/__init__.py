"""Operations on functions on the sphere."""

from equimodels.ops.gaunt import GauntProduct
from equimodels.ops.gaunt_convolution import GauntConvolution
from equimodels.ops.gaunt_dense import gaunt_coefficients
from equimodels.ops.gaunt_power import GauntPower
from equimodels.ops.quadrature import lebedev
from equimodels.ops.spherical_harmonics import spherical_harmonics
from equimodels.ops.wigner import wigner_d

__all__ = [
    "GauntConvolution",
    "GauntPower",
    "GauntProduct",
    "gaunt_coefficients",
    "lebedev",
    "spherical_harmonics",
    "wigner_d",
]
