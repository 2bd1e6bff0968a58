"""Groups, their representations, the one measure of equivariance, and what makes a network invariant or equivariant."""

from equimodels.symmetry.equivariance import equivariance_error
from equimodels.symmetry.frame_averaging import FrameAveraging
from equimodels.symmetry.frames import DegenerateFrameError, Frame, principal_frame
from equimodels.symmetry.groups import Axial, Euclidean, Group, Orthogonal, Permutations, euclidean, random_rotations
from equimodels.symmetry.invariant_coordinates import InvariantCoordinates, invariant_coordinates
from equimodels.symmetry.representations import (
    Action,
    Harmonic,
    Invariant,
    Items,
    Point,
    Product,
    Pseudo,
    Representation,
    Sum,
    Vector,
    act,
)
from equimodels.symmetry.six_d import rotation_from_6d, rotation_to_6d, undetermined

__all__ = [
    "Action",
    "Axial",
    "DegenerateFrameError",
    "Euclidean",
    "Frame",
    "FrameAveraging",
    "Group",
    "Harmonic",
    "Invariant",
    "InvariantCoordinates",
    "Items",
    "Orthogonal",
    "Permutations",
    "Point",
    "Product",
    "Pseudo",
    "Representation",
    "Sum",
    "Vector",
    "act",
    "equivariance_error",
    "euclidean",
    "invariant_coordinates",
    "principal_frame",
    "random_rotations",
    "rotation_from_6d",
    "rotation_to_6d",
    "undetermined",
]
