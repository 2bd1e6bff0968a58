"""The smooth cutoff every radial basis is multiplied by. Distances in angstrom."""

from torch import Tensor


def polynomial_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    """1 at distance 0, falling to 0 at `cutoff` with two continuous derivatives, 0 beyond. Any shape.

    1 - 28 u^6 + 48 u^7 - 21 u^8 with u = distance / cutoff: Gasteiger, Gross and Guennemann 2020 (DimeNet), eq. 8,
    with p = 6.
    """
    # Clamped at u = 1, where the polynomial and its first two derivatives vanish: no branch, and no overflow far out.
    u = (distance / cutoff).clamp(max=1.0)
    cube = u * u * u
    return 1 - cube * cube * (28 - u * (48 - 21 * u))
