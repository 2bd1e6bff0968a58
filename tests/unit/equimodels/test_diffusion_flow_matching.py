"""Flow matching: the path, the loss, the floor under it, and that evaluating repeats."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.models.diffusion_transformer import DiffusionTransformer, DiffusionTransformerConfig
from equimodels.models.images import ImageBatch, PixelScale
from equimodels.objectives.flow_matching import FlowMatching, FlowMatchingConfig, interpolate
from equimodels.objectives.gaussian_floor import covariance_eigenvalues, linear_gaussian_floor, residual

FACTS = {"shape": [1, 4, 4], "mean": [0.0], "std": [1.0]}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def batch(pixels):
    return ImageBatch(pixels, torch.zeros(len(pixels), dtype=torch.int64))


def flow(**settings):
    return FlowMatching(FlowMatchingConfig(**settings), FACTS)


def zero(x_t, t):
    return torch.zeros_like(x_t)


def value(metrics):
    return float(metrics["loss"][0] / metrics["loss"][1])


def best_linear(root):
    """The exact minimiser E[v | x_t] for x = z `root` with z ~ N(0, 1): what the floor is the loss of."""
    s, u = torch.linalg.eigh(root.T @ root)

    def forward(x_t, t):
        t = t[:, None]
        gain = (t - (1 - t) * s) / ((1 - t) ** 2 * s + t**2)
        return ((x_t.flatten(1) @ u) * gain @ u.T).view_as(x_t)

    return forward


def test_the_path_is_the_image_at_time_zero_and_noise_at_time_one():
    x, e = noise(3, 1, 4, 4), noise(3, 1, 4, 4, seed=1)
    assert_close(interpolate(x, e, torch.zeros(3).double()), x, rtol=0, atol=0)
    assert_close(interpolate(x, e, torch.ones(3).double()), e, rtol=0, atol=0)


def test_the_velocity_is_the_derivative_of_the_path():
    x, e = noise(3, 1, 4, 4), noise(3, 1, 4, 4, seed=1)
    t = torch.full((3,), 0.3, dtype=torch.float64)
    assert_close((interpolate(x, e, t + 1e-4) - interpolate(x, e, t)) / 1e-4, e - x, rtol=1e-8, atol=1e-8)


def test_a_network_that_knows_the_noise_has_no_loss():
    x = noise(5, 1, 4, 4)

    def knowing(x_t, t):
        t = t[:, None, None, None]
        return (x_t - x) / t  # e - x, of the same x

    loss, _ = flow()(knowing, batch(x), seeded())
    assert loss < 1e-20


def test_predicting_zero_of_standardised_images_costs_two():
    metrics = flow().evaluate(zero, batch(noise(4000, 1, 4, 4)), seeded())
    assert value(metrics) == pytest.approx(2.0, abs=0.02)


def test_pixels_are_standardised_before_noise_is_added():
    x = noise(5, 1, 4, 4)
    facts = {"shape": [1, 4, 4], "mean": [3.0], "std": [2.0]}
    loss, _ = FlowMatching(FlowMatchingConfig(), facts)(zero, batch(x * 2 + 3), seeded())
    assert_close(loss, flow()(zero, batch(x), seeded())[0], rtol=1e-12, atol=1e-12)


def test_the_loss_is_the_mean_that_its_metric_says():
    loss, metrics = flow()(zero, batch(noise(5, 1, 4, 4)), seeded())
    assert metrics["loss"].dtype == torch.float64
    assert metrics["loss"][1] == 5
    assert value(metrics) == pytest.approx(loss.item())
    assert not metrics["loss"].requires_grad


def test_the_loss_has_a_gradient_and_its_metric_has_none():
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    loss, metrics = flow()(lambda x_t, t: scale * x_t, batch(noise(5, 1, 4, 4)), seeded())
    loss.backward()
    assert scale.grad is not None
    assert not metrics["loss"].requires_grad


def test_training_draws_new_noise_each_time_but_a_seed_repeats_it():
    generator, x = seeded(), batch(noise(5, 1, 4, 4))
    first, second = (flow()(zero, x, generator)[0] for _ in range(2))
    assert first != second
    assert first == flow()(zero, x, seeded())[0]


def test_evaluating_twice_with_one_seed_gives_one_value():
    x = batch(noise(5, 1, 4, 4))
    assert_close(flow().evaluate(zero, x, seeded())["loss"], flow().evaluate(zero, x, seeded())["loss"], rtol=0, atol=0)
    assert value(flow().evaluate(zero, x, seeded())) != value(flow().evaluate(zero, x, seeded(1)))


def test_evaluating_spreads_the_times_evenly_over_their_law():
    seen = []

    def watching(x_t, t):
        seen.append(t)
        return zero(x_t, t)

    flow(logit_mean=0.5, logit_std=0.8).evaluate(watching, batch(noise(50, 1, 4, 4)), seeded())
    normal = (torch.logit(seen[0]) - 0.5) / 0.8
    assert_close(torch.special.ndtr(normal).sort().values, (torch.arange(200).double() + 0.5) / 200)
    assert not torch.equal(seen[0], seen[0].sort().values)


def test_training_draws_times_from_a_logit_normal_law():
    seen = []

    def watching(x_t, t):
        seen.append(t)
        return zero(x_t, t)

    flow(logit_mean=-0.5, logit_std=2.0)(watching, batch(noise(20000, 1, 1, 1)), seeded())
    logit = torch.logit(seen[0])
    assert logit.mean().item() == pytest.approx(-0.5, abs=0.05)
    assert logit.std().item() == pytest.approx(2.0, abs=0.04)


def test_single_precision_sees_the_noise_of_double_precision():
    x = noise(5, 1, 4, 4)
    double, single = (flow()(zero, batch(p), seeded())[0] for p in (x, x.float()))
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(double.item(), rel=1e-6)


def test_evaluating_leaves_no_graph():
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    metrics = flow().evaluate(lambda x_t, t: scale * x_t, batch(noise(5, 1, 4, 4)), seeded())
    assert not metrics["loss"].requires_grad


@pytest.mark.parametrize(
    ("setting", "given"), [("logit_mean", 11.0), ("logit_std", 0.0), ("logit_std", math.nan), ("evaluation_draws", 0)]
)
def test_a_setting_out_of_range_is_named(setting, given):
    with pytest.raises(SettingError) as caught:
        FlowMatchingConfig(**{setting: given})
    assert caught.value.field == setting


def test_a_batch_moves_its_pixels_to_a_dtype_and_keeps_its_labels_integer():
    moved = batch(noise(2, 1, 4, 4)).to("cpu", torch.float32)
    assert moved.pixels.dtype == torch.float32
    assert moved.labels.dtype == torch.int64


def test_restoring_undoes_standardising():
    scale, x = PixelScale((1.0, -2.0), (0.5, 3.0)), noise(2, 2, 4, 4)
    assert_close(scale.restore(scale.standardise(x)), x, rtol=1e-12, atol=1e-12)


# The floor


def test_the_residual_matches_a_least_squares_fit():
    x, e = noise(200_000), noise(200_000, seed=1)
    for s, t in ((0.2, 0.3), (2.0, 0.5), (5.0, 0.9)):
        path, v = (1 - t) * math.sqrt(s) * x + t * e, e - math.sqrt(s) * x
        left = (v - path * (path @ v) / (path @ path)).square().mean()
        expected = residual(torch.tensor(s).double(), torch.tensor(t).double())
        assert left.item() == pytest.approx(expected.item(), rel=0.01)


def test_the_residual_vanishes_for_a_direction_without_variance():
    assert residual(torch.zeros(1), torch.tensor([0.3])).abs().item() < 1e-6


@pytest.mark.parametrize("settings", [{}, {"logit_mean": 1.0, "logit_std": 0.5}])
def test_the_floor_is_the_loss_of_the_best_predictor_of_gaussian_data(settings):
    root = noise(16, 16, seed=3) / 4
    x = (noise(20_000, 16, seed=4) @ root).view(-1, 1, 4, 4)
    floor = linear_gaussian_floor(torch.linalg.eigvalsh(root.T @ root), FlowMatchingConfig(**settings))
    loss = value(flow(**settings).evaluate(best_linear(root), batch(x), seeded()))
    assert loss == pytest.approx(floor, rel=0.01)


def test_structure_beyond_the_covariance_goes_below_the_floor():
    x = torch.where(noise(20_000, 1, 1, 1) > 0, 1.0, -1.0).double()  # two points: variance 1, not Gaussian

    def exact(x_t, t):
        t = t[:, None, None, None]
        mean = torch.tanh((1 - t) * x_t / t**2)
        return (x_t - mean) / t

    loss = value(flow().evaluate(exact, batch(x), seeded()))
    assert loss < 0.9 * linear_gaussian_floor([1.0], FlowMatchingConfig())


def test_the_floor_of_the_digits_is_the_published_one():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    pixels = torch.from_numpy(load_digits().images / 16).view(-1, 1, 8, 8)
    scale = PixelScale((float(pixels.mean()),), (float(pixels.std()),))
    floor = linear_gaussian_floor(covariance_eigenvalues(scale.standardise(pixels)), FlowMatchingConfig())
    assert floor == pytest.approx(0.802, abs=0.003)


def test_the_covariance_eigenvalues_add_up_to_the_variance():
    x = noise(50, 2, 3, 3) * 3 + 7
    assert covariance_eigenvalues(x).sum().item() == pytest.approx(float(np.var(x.flatten(1).numpy(), axis=0).sum()))


def test_a_network_on_gaussian_data_comes_within_three_per_cent_of_the_floor_and_not_below():
    root = noise(4, 4, seed=3) / 3 + torch.diag(torch.linspace(0.1, 1.2, 4).double())
    config = DiffusionTransformerConfig(dim=32, layers=2, heads=2, patch=1, tap=1, time_features=16)
    torch.manual_seed(0)
    model = DiffusionTransformer(config, facts={**FACTS, "shape": [1, 2, 2]})
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    generator, steps = seeded(5), 300

    def sample(number):
        return batch((torch.randn(number, 4, generator=generator) @ root.float()).view(-1, 1, 2, 2))

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        loss, _ = flow()(model, sample(128), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    # Against the best predictor on the same images, noise and times: their difference has far less noise than either.
    held_out = sample(4096)
    found = value(flow().evaluate(model.eval(), held_out, seeded(6)))
    best = best_linear(root)
    floor = value(flow().evaluate(lambda x, t: best(x.double(), t.double()).float(), held_out, seeded(6)))
    assert floor == pytest.approx(
        linear_gaussian_floor(torch.linalg.eigvalsh(root.T @ root), FlowMatchingConfig()), rel=0.02
    )
    assert floor <= found <= 1.03 * floor
