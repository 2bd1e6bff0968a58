"""What every radial basis promises, as tests a plug-in inherits."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equimodels.embeddings.radial import build_radial
from equimodels.testing.tolerances import DTYPES


class RadialContract:
    """Subclass as `class TestMyBasis(RadialContract)` with `name` (registered) and `params`; pytest does the rest.

    Each promise is a `check_...` method that takes a basis and raises AssertionError, so that it can be shown to fail.
    """

    name: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}
    cutoff: ClassVar[float] = 5.0  # angstrom

    def build(self) -> nn.Module:
        """The basis under test, in the default dtype."""
        return build_radial({"radial": {"name": self.name, "params": dict(self.params)}}, cutoff=self.cutoff)

    def check_shape(self, basis: nn.Module, dtype: torch.dtype) -> None:
        """(E,) to (E, number), finite, in the dtype of the input; no edges are fine."""
        for count in (0, 1, 7):
            values = basis.to(dtype)(torch.linspace(0.1, 4.9, count, dtype=dtype))
            assert values.shape == (count, basis.number), f"shape {tuple(values.shape)} of {count} distances"
            assert values.dtype == dtype, f"{values.dtype} from distances of {dtype}"
            assert values.isfinite().all(), "a value that is not finite"

    def check_smooth(self, basis: nn.Module) -> None:
        """Value, first and second derivative go to zero at the cutoff, and everything is zero beyond."""
        basis, cutoff = basis.to(torch.float64), float(basis.cutoff)  # type: ignore[arg-type]
        inside = _derivatives(basis, torch.tensor([cutoff * (1 - 1e-7)], dtype=torch.float64))
        middle = _derivatives(basis, torch.linspace(0.2, 0.8, 13, dtype=torch.float64) * cutoff)
        for name, near, typical in zip(("value", "first derivative", "second derivative"), inside, middle, strict=True):
            # A smooth end is smaller by the first missing order, 1e-7; a jump is of the typical size.
            assert near.abs().max() <= 1e-4 * typical.abs().max(), (
                f"the {name} jumps at the cutoff: {near.abs().max():.1e}"
            )
        beyond = basis(torch.tensor([cutoff, cutoff * 1.001, cutoff * 1000], dtype=torch.float64))
        assert (beyond.abs() <= 1e-12).all(), f"not zero beyond the cutoff: {beyond.abs().max():.1e}"

    def check_independent(self, basis: nn.Module) -> None:
        """No function is a combination of the others: the Gram matrix has full numerical rank."""
        distance = torch.linspace(0.5, float(basis.cutoff), 400, dtype=torch.float64)  # type: ignore[arg-type]
        values = basis.to(torch.float64)(distance).detach()
        rank = int(torch.linalg.matrix_rank(values, rtol=1e-7))
        assert rank == basis.number, f"{basis.number} functions span {rank} dimensions"

    def test_a_basis_maps_distances_to_rows(self) -> None:
        for dtype in DTYPES:
            self.check_shape(self.build(), dtype)

    def test_a_basis_vanishes_smoothly_at_the_cutoff(self) -> None:
        self.check_smooth(self.build())

    def test_the_functions_of_a_basis_are_independent(self) -> None:
        self.check_independent(self.build())

    def test_a_basis_can_be_differentiated_twice(self) -> None:
        distance = torch.linspace(0.6, 4.9, 5, dtype=torch.float64, requires_grad=True)
        basis = self.build().to(torch.float64)
        assert torch.autograd.gradcheck(basis, distance)
        assert torch.autograd.gradgradcheck(basis, distance)


def _derivatives(basis: nn.Module, distance: Tensor) -> list[Tensor]:
    """Value, first and second derivative, (E, number) each."""
    distance = distance.requires_grad_()
    columns = []
    for value in basis(distance).unbind(1):
        (first,) = torch.autograd.grad(value.sum(), distance, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), distance, retain_graph=True)
        columns.append(torch.stack([value, first, second]).detach())
    return list(torch.stack(columns, dim=-1))
