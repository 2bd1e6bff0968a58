"""Operations on functions on the sphere."""

from equimodels.ops.cross import CrossProduct
from equimodels.ops.edge_convolution import EdgeConvolution
from equimodels.ops.gaunt import GauntProduct
from equimodels.ops.gaunt_convolution import GauntConvolution
from equimodels.ops.gaunt_dense import gaunt_coefficients
from equimodels.ops.gaunt_power import GauntPower
from equimodels.ops.irreps import Irrep, Irreps
from equimodels.ops.quadrature import gauss_legendre, lebedev
from equimodels.ops.rotated_convolution import RotatedConvolution, gaunt_weights
from equimodels.ops.spherical_harmonics import spherical_harmonics
from equimodels.ops.wigner import block_wigner_D, wigner_D

__all__ = [
    "CrossProduct",
    "EdgeConvolution",
    "GauntConvolution",
    "GauntPower",
    "GauntProduct",
    "Irrep",
    "Irreps",
    "RotatedConvolution",
    "block_wigner_D",
    "gaunt_coefficients",
    "gaunt_weights",
    "gauss_legendre",
    "lebedev",
    "spherical_harmonics",
    "wigner_D",
]
