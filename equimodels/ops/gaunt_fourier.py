"""The Gaunt product by Fourier series on the torus, as published: a reference, slower than quadrature at every degree.

Source: Luo, Chen and Krishnapriyan 2024 (arXiv 2401.10216), section 3.2; the idea is older: Xin et al. 2021 (ACM Trans.
Graph.). A harmonic of degree l continued to polar angles theta in [0, 2 pi) is a trigonometric polynomial of degree l
in theta and azimuth phi. So products are convolutions of Fourier coefficients, done by FFT on a torus of
(2 (lmax1 + lmax2) + 1)^2 points, which covers the sphere twice: 625 points at lmax 6 where a Lebedev rule has 146.
Shapes: `...` any, n_i = (lmax_i + 1)^2, U frequencies of theta in the order of an FFT, V >= 0 of phi.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from equimodels.ops.exact import ExactTables
from equimodels.ops.row_blocks import in_row_blocks, rows_of
from equimodels.ops.spherical_harmonics import spherical_harmonics


class FourierProduct(ExactTables):
    """Coefficients of the pointwise product of two functions, exact."""

    to_fourier_1: Tensor
    to_fourier_2: Tensor
    from_fourier: Tensor

    def __init__(self, lmax1: int, lmax2: int, lmax_out: int) -> None:
        super().__init__()
        self.lmax1, self.lmax2 = lmax1, lmax2
        self.size = 2 * (lmax1 + lmax2) + 1
        self.highest = min(lmax_out, lmax1 + lmax2)  # frequency of phi that is read
        for name, lmax in (("to_fourier_1", lmax1), ("to_fourier_2", lmax2)):
            half = _fourier(lmax)[:, :, : lmax + 1]
            self.add_table(name, torch.view_as_real(half.resolve_conj()).flatten(1).contiguous())
        self.add_table("from_fourier", _projection(lmax_out, lmax1 + lmax2, self.highest))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x: (..., n1), y: (..., n2), broadcast against each other. Returns (..., n_out)."""
        kind = x.dtype
        with torch.autocast(x.device.type, enabled=False):  # FFTs have no half precision
            x, y = (tensor if tensor.dtype == torch.float64 else tensor.float() for tensor in (x, y))
            return in_row_blocks(self.convolve, x, y, 3 * self.size**2).to(kind)

    def convolve(self, x: Tensor, y: Tensor) -> Tensor:
        """The same, all rows at once."""
        if not torch.compiler.is_compiling() and rows_of(x, y).numel() == 0:  # FFT libraries refuse it
            return (x[..., :1] * y[..., :1]).expand(*rows_of(x, y), self.from_fourier.shape[1])
        values = self._torus(x @ self.to_fourier_1, self.lmax1) * self._torus(y @ self.to_fourier_2, self.lmax2)
        spectrum = torch.fft.rfft2(values, norm="forward")[..., : self.highest + 1]
        return torch.view_as_real(spectrum).flatten(-3) @ self.from_fourier

    def _torus(self, flat: Tensor, lmax: int) -> Tensor:
        """Values (..., size, size) from the Fourier coefficients, zero-padded."""
        spectrum = torch.view_as_complex(flat.view(*flat.shape[:-1], 2 * lmax + 1, lmax + 1, 2))
        gap = self.size - (2 * lmax + 1)
        spectrum = torch.cat(
            [F.pad(spectrum[..., : lmax + 1, :], (0, 0, 0, gap)), spectrum[..., lmax + 1 :, :]], dim=-2
        )
        spectrum = F.pad(spectrum, (0, self.size // 2 - lmax))
        values: Tensor = torch.fft.irfft2(spectrum, s=(self.size, self.size), norm="forward")
        return values


def _fourier(lmax: int) -> Tensor:
    """(n, 2 lmax + 1, 2 lmax + 1) complex128: the series of each harmonic, frequencies in the order of an FFT."""
    size = 2 * lmax + 1
    angle = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size)
    theta, phi = torch.meshgrid(angle, angle, indexing="ij")
    points = torch.stack([theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()], dim=-1)
    values = spherical_harmonics(lmax, points, normalization="component")
    series: Tensor = torch.fft.fft2(values.movedim(-1, 0), norm="forward")
    return series


def _projection(lmax: int, degree: int, highest: int) -> Tensor:
    """(U * V * 2, n) float64: from the series of a function of this degree to its coefficients up to lmax.

    c = 1/(4 pi) sum_uv F_uv z_uv, z_uv = integral of exp(i (u theta + v phi)) Y sin(theta); v and -v are conjugate.
    """
    u = torch.fft.fftfreq(2 * degree + 1, d=1 / (2 * degree + 1), dtype=torch.float64).round().long()
    inner = torch.fft.fftfreq(2 * lmax + 1, d=1 / (2 * lmax + 1), dtype=torch.float64).round().long()
    series = _fourier(lmax)
    z = torch.stack(
        [2 * math.pi * series[:, :, -v] @ _polar_integral(u[None, :] + inner[:, None]) for v in range(highest + 1)],
        dim=2,
    )  # (n, U, V)
    z = z / (4 * math.pi) * torch.tensor([1.0] + [2.0] * highest, dtype=torch.float64)
    return torch.stack([z.real, -z.imag], dim=-1).flatten(1).mT.contiguous()


def _polar_integral(k: Tensor) -> Tensor:
    """Integral over theta in [0, pi] of exp(i k theta) sin(theta), complex128."""
    even = torch.where(k % 2 == 0, 2 / (1 - k.double() ** 2), 0.0)
    odd = torch.where(k.abs() == 1, k.sign() * math.pi / 2, 0.0).double()
    return torch.complex(even, odd)
