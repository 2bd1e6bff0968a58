"""Irreducible representations of O(3) with parity, and how their features are laid out.

Here a feature is (..., C, n): channels, then the coefficients of all degrees. e3nn lays the same numbers out one
irreducible representation after the other, in each all channels, and its models take and give tensors like that.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from equimodels.errors import SettingError, require
from equimodels.ops.spherical_harmonics import MAX_DEGREE, degree_slices
from equimodels.ops.wigner import wigner_D

_TERM = re.compile(r"(?:(\d+)\s*x\s*)?(\d+)([eo])")


@dataclass(frozen=True, order=True)
class Irrep:
    """Degree l and parity, +1 (even) or -1 (odd), written `0e`, `1o`: a scalar, a vector; `1e` is an axial vector.

    Raises SettingError for a degree outside 0..12 or another parity.
    """

    degree: int
    parity: int

    def __post_init__(self) -> None:
        require(0 <= self.degree <= MAX_DEGREE, "degree", self.degree, f"0 to {MAX_DEGREE}")
        require(self.parity in (1, -1), "parity", self.parity, "1 (even) or -1 (odd)")

    @property
    def dim(self) -> int:
        """2 l + 1."""
        return 2 * self.degree + 1

    @property
    def is_natural(self) -> bool:
        """Whether its parity is that of the spherical harmonics, (-1)^l."""
        return self.parity == (1, -1)[self.degree % 2]

    def __str__(self) -> str:
        return f"{self.degree}{'e' if self.parity == 1 else 'o'}"

    def __mul__(self, other: "Irrep") -> "Iterator[Irrep]":
        """The irreps of the tensor product: degrees |l1 - l2| to l1 + l2, each with the product of the parities."""
        for degree in range(abs(self.degree - other.degree), min(self.degree + other.degree, MAX_DEGREE) + 1):
            yield Irrep(degree, self.parity * other.parity)

    def matrix(self, element: Tensor) -> Tensor:
        """element: (..., 3, 3) orthogonal. Returns (..., 2 l + 1, 2 l + 1) float64."""
        matrix = wigner_D(self.degree, element)
        if self.is_natural:
            return matrix
        sign: Tensor = torch.linalg.det(element.to(torch.float64))
        return sign[..., None, None] * matrix


@dataclass(frozen=True)
class Irreps:
    """A direct sum such as `8x0e + 8x1o`: (multiplicity, irrep) in their order. A representation of `symmetry`."""

    terms: tuple[tuple[int, Irrep], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `8x0e + 4x1o + 2e`. Raises SettingError with the part that cannot be read."""
        terms = []
        for part in filter(None, (part.strip() for part in text.split("+"))):
            found = _TERM.fullmatch(part)
            if found is None:
                raise SettingError("irreps", part, "terms such as 8x0e or 1o, joined by +")
            many, degree, parity = found.groups()
            terms.append((int(many or 1), Irrep(int(degree), 1 if parity == "e" else -1)))
        return cls(tuple(terms))

    @classmethod
    def natural(cls, lmax: int, channels: int) -> Self:
        """What (..., C, n) features are: `channels` of each degree 0..lmax, of the parity of spherical harmonics."""
        return cls(tuple((channels, Irrep(degree, (1, -1)[degree % 2])) for degree in range(lmax + 1)))

    @property
    def dim(self) -> int:
        """Numbers in all."""
        return sum(many * irrep.dim for many, irrep in self.terms)

    def __str__(self) -> str:
        return "+".join(f"{many}x{irrep}" for many, irrep in self.terms)

    def slices(self) -> list[slice]:
        """Where each term lies in a tensor (..., dim)."""
        ends, found = 0, []
        for many, irrep in self.terms:
            found.append(slice(ends, ends + many * irrep.dim))
            ends = found[-1].stop
        return found

    def matrix(self, element: Tensor) -> Tensor:
        """element: (..., 3, 3) orthogonal. Returns the block diagonal matrix (..., dim, dim) float64."""
        batch = element.shape[:-2]
        whole = torch.zeros(*batch, self.dim, self.dim, dtype=torch.float64, device=element.device)
        for (many, irrep), where in zip(self.terms, self.slices(), strict=True):
            block = irrep.matrix(element)
            eye = torch.eye(many, dtype=torch.float64, device=element.device)
            spread = (eye[:, None, :, None] * block[..., None, :, None, :]).flatten(-4, -3).flatten(-2, -1)
            whole[..., where, where] = spread
        return whole


def pack(x: Tensor) -> Tensor:
    """x: (..., C, n), n = (lmax + 1)^2. Returns (..., C n), laid out as `Irreps.natural(lmax, C)`, as e3nn has it."""
    lmax = _lmax(x.shape[-1])
    return torch.cat([x[..., where].flatten(-2) for where in degree_slices(lmax)], dim=-1)


def unpack(x: Tensor, channels: int) -> Tensor:
    """The inverse of `pack`: (..., C n) to (..., C, n). Raises SettingError for a width that does not fit."""
    require(channels > 0 and x.shape[-1] % channels == 0, "channels", channels, f"a divisor of the width {x.shape[-1]}")
    irreps = Irreps.natural(_lmax(x.shape[-1] // channels), channels)
    return torch.cat([x[..., where].view(*x.shape[:-1], channels, -1) for where in irreps.slices()], dim=-1)


def _lmax(width: int) -> int:
    lmax = math.isqrt(width) - 1
    require((lmax + 1) ** 2 == width > 0, "width", width, "(lmax + 1)^2 coefficients: 1, 4, 9, 16, ...")
    return lmax
