"""Euler's method on velocities whose flow is known."""

import math

import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.samplers.euler import euler


def noise(number=5, dtype=torch.float64):
    return torch.randn(number, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)


def gaussian(s):
    """The exact velocity for data of variance s. Its flow takes noise e to sqrt(s) e."""

    def velocity(x, t):
        t = t[:, None, None, None]
        return x * (t - (1 - t) * s) / ((1 - t) ** 2 * s + t**2)

    return velocity


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_one_image_is_reached_exactly_in_any_number_of_steps(steps):
    image = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)

    def velocity(x, t):
        return (x - image) / t[:, None, None, None]  # e - x for the only x there is: straight lines

    assert_close(euler(velocity, noise(), steps=steps), image.expand(5, 1, 2, 2), rtol=1e-12, atol=1e-12)


def test_the_error_falls_as_one_over_the_number_of_steps():
    errors = [(euler(gaussian(4.0), noise(), steps=n) - 2 * noise()).abs().max().item() for n in (100, 200, 400)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(1.0, abs=0.1)


def test_samples_of_gaussian_data_have_its_variance():
    samples = euler(gaussian(0.25), noise(4000), steps=100)
    assert samples.var().item() == pytest.approx(0.25, rel=0.05)


def test_time_runs_from_noise_to_data():
    seen = []

    def velocity(x, t):
        seen.append(t[0].item())
        return torch.zeros_like(x)

    euler(velocity, noise(), steps=4)
    assert seen == [1.0, 0.75, 0.5, 0.25]


def test_the_noise_given_is_not_changed_and_its_dtype_is_kept():
    start = noise(dtype=torch.float32)
    kept = start.clone()
    assert euler(gaussian(4.0), start, steps=3).dtype == torch.float32
    assert torch.equal(start, kept)


def test_no_steps_are_refused():
    with pytest.raises(SettingError, match="steps"):
        euler(gaussian(1.0), noise(), steps=0)
