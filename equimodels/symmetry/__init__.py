"""Groups, their representations, and the one measure of equivariance."""

from equimodels.symmetry.equivariance import equivariance_error
from equimodels.symmetry.groups import Group, Orthogonal, random_rotations
from equimodels.symmetry.representations import Harmonic, Invariant, Representation, Vector, act

__all__ = [
    "Group",
    "Harmonic",
    "Invariant",
    "Orthogonal",
    "Representation",
    "Vector",
    "act",
    "equivariance_error",
    "random_rotations",
]
