"""Every built-in radial basis keeps the contract, and the contract can fail."""

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from equimodels.components import radial_bases
from equimodels.embeddings.bessel import Bessel, BesselConfig
from equimodels.embeddings.chebyshev import Chebyshev, ChebyshevConfig
from equimodels.embeddings.cutoff import polynomial_cutoff
from equimodels.embeddings.gaussian import Gaussian, GaussianConfig
from equimodels.embeddings.radial import build_radial
from equimodels.errors import SettingError, UnknownComponentError
from equimodels.testing import DTYPES, RadialContract


class TestBessel(RadialContract):
    name = "bessel"


class TestTrainableBessel(RadialContract):
    name = "bessel"
    params: ClassVar = {"number": 5, "trainable": True}


class TestGaussian(RadialContract):
    name = "gaussian"


class TestChebyshev(RadialContract):
    name = "chebyshev"


class TestShorterCutoff(RadialContract):
    name = "bessel"
    params: ClassVar = {"cutoff": 4.0}


class HardCutoff(nn.Module):
    """Continuous with a continuous slope at the cutoff, but with a jump in its second derivative."""

    number = 1

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, distance: Tensor) -> Tensor:
        return (1 - (distance / self.cutoff).clamp(max=1.0)).square()[:, None]


def test_a_basis_cut_too_hard_is_caught():
    with pytest.raises(AssertionError, match="second derivative"):
        RadialContract().check_smooth(HardCutoff(5.0))


def test_a_basis_that_repeats_a_function_is_caught():
    class Twice(Chebyshev):
        def forward(self, distance: Tensor) -> Tensor:
            return super().forward(distance)[:, [0, 1, 1]]

    with pytest.raises(AssertionError, match="span 2 dimensions"):
        RadialContract().check_independent(Twice(ChebyshevConfig(number=3), cutoff=5.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bessel_matches_the_closed_form(dtype):
    r = torch.linspace(0.3, 4.9, 50, dtype=dtype)
    expected = torch.stack([math.sqrt(2 / 5) * torch.sin(n * math.pi * r / 5) / r for n in (1, 2, 3)], dim=-1)
    found = Bessel(BesselConfig(number=3), cutoff=5.0).to(dtype)(r)
    assert_close(found, expected * polynomial_cutoff(r, 5.0)[:, None])


def test_chebyshev_matches_the_cosine_form():
    r = torch.linspace(0.1, 4.9, 50, dtype=torch.float64)
    expected = torch.stack([torch.cos(n * torch.acos(1 - 2 * r / 5)) for n in range(12)], dim=-1)
    found = Chebyshev(ChebyshevConfig(number=12), cutoff=5.0)(r)
    assert_close(found, expected * polynomial_cutoff(r, 5.0)[:, None])


def test_gaussians_peak_at_evenly_spaced_centres():
    basis = Gaussian(GaussianConfig(number=6), cutoff=5.0).double()
    centres = torch.arange(6, dtype=torch.float64)
    assert_close(basis(centres).diagonal(), polynomial_cutoff(centres, 5.0))


def test_the_cutoff_polynomial_falls_from_one_to_zero():
    values = polynomial_cutoff(torch.linspace(0, 5, 101, dtype=torch.float64), 5.0)
    assert values[0] == 1
    assert values[-1] == 0
    assert (values.diff() <= 0).all()


def test_the_built_in_names_are_found():
    assert {"bessel", "gaussian", "chebyshev"} <= set(radial_bases.names())


@pytest.mark.parametrize(
    ("params", "field"),
    [({"number": 0}, "number"), ({"cutoff": -1.0}, "cutoff"), ({"nmber": 8}, "nmber"), ({"number": "8"}, "number")],
)
def test_a_bad_setting_of_a_basis_is_refused_by_name(params, field):
    with pytest.raises(SettingError) as caught:
        build_radial({"radial": {"name": "bessel", "params": params}}, cutoff=5.0)
    assert caught.value.field == field


def test_a_basis_may_not_reach_beyond_the_model():
    with pytest.raises(SettingError, match=r"at most the cutoff of the model, 5\.0"):
        build_radial({"radial": {"name": "gaussian", "params": {"cutoff": 6.0}}}, cutoff=5.0)


def test_an_unknown_basis_is_refused_with_the_known_ones():
    with pytest.raises(UnknownComponentError, match="bessel, chebyshev, gaussian"):
        build_radial({"radial": {"name": "besel"}}, cutoff=5.0)


@pytest.mark.parametrize("embedding", [{}, {"radial": "bessel"}, {"radial": {"params": {}}}])
def test_an_embedding_without_a_radial_basis_is_refused(embedding):
    with pytest.raises(SettingError, match="embedding"):
        build_radial(embedding, cutoff=5.0)
