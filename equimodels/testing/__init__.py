"""Contracts a plug-in inherits as its tests, and the measures they use. Importable without pytest."""

from equimodels.symmetry.equivariance import equivariance_error
from equimodels.testing.model import ModelContract
from equimodels.testing.potential import PotentialContract
from equimodels.testing.radial import RadialContract
from equimodels.testing.tolerances import DTYPES, EQUIVARIANCE

__all__ = ["DTYPES", "EQUIVARIANCE", "ModelContract", "PotentialContract", "RadialContract", "equivariance_error"]
