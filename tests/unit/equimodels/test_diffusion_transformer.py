"""The diffusion transformer: what it is at the start, what its features depend on, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.models.diffusion_transformer import DiffusionTransformer, DiffusionTransformerConfig

FACTS = {"shape": [2, 4, 6], "mean": [0.5, -1.0], "std": [2.0, 0.25]}
SMALL = DiffusionTransformerConfig(dim=16, layers=3, heads=2, tap=2, time_features=8)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def network(dtype=torch.float64, config=SMALL, *, redrawn=True):
    torch.manual_seed(0)
    model = DiffusionTransformer(config, facts=FACTS)
    if redrawn:
        model.redraw_zero_init(torch.Generator().manual_seed(1))
    return model.to(dtype).eval()


def images(dtype=torch.float64, number=3):
    return torch.randn(number, 2, 4, 6, generator=torch.Generator().manual_seed(2), dtype=dtype)


def times(dtype=torch.float64, number=3):
    return torch.linspace(0.1, 0.9, number, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_new_network_predicts_zero(dtype):
    assert not network(dtype, redrawn=False)(images(dtype), times(dtype)).any()


def test_a_redrawn_network_does_not_predict_zero():
    assert network()(images(), times()).std() > 0.05


def test_the_blocks_of_a_new_network_are_the_identity():
    model = network(redrawn=False)
    assert_close(model.tokens(images(), block=1), model.tokens(images(), block=3), rtol=0, atol=0)


def test_redrawing_gives_every_parameter_a_value_and_repeats_for_one_seed():
    first, second = network(), network()
    assert all(parameter.any() for parameter in first.parameters())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert_close(a, b, rtol=0, atol=0)


def test_redrawing_leaves_the_rest_of_the_weights_alone():
    before, after = network(redrawn=False).state_dict(), network().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "modulation" in name or "unpatchify" in name or "table" in name}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_velocity_has_the_shape_and_dtype_of_the_image(dtype):
    velocity = network(dtype)(images(dtype), times(dtype))
    assert velocity.shape == (3, 2, 4, 6)
    assert velocity.dtype == dtype


def test_single_precision_agrees_with_double():
    expected = network(torch.float64)(images(), times())
    found = network(torch.float32)(images().float(), times().float())
    assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_network_in_bfloat16_takes_and_returns_single_precision():
    velocity = network(torch.bfloat16)(images().float(), times().float())
    assert velocity.dtype == torch.float32
    assert_close(velocity.double(), network()(images(), times()), rtol=0.2, atol=0.1)


def test_every_image_is_predicted_by_itself():
    model, x, t = network(), images(), times()
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    assert_close(model(x, t), alone, rtol=1e-12, atol=1e-12)


def test_patches_come_back_as_the_image():
    model = network()
    patches = model._to_patches(images())
    assert patches.shape == (3, 6, 8)
    assert_close(patches[:, 1], images()[:, :, 0:2, 2:4].flatten(1), rtol=0, atol=0)
    assert_close(model._from_patches(patches), images(), rtol=0, atol=0)


def test_the_velocity_depends_on_the_time():
    model, x = network(), images()
    assert (model(x, times()) - model(x, times().flip(0))).abs().max() > 1e-3


def test_gradients_reach_every_parameter():
    model = network()
    model(images(), times()).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_are_one_vector_an_image_and_repeat(dtype):
    model = network(dtype)
    features = model.features(images(dtype))
    assert features.shape == (3, model.dim)
    assert_close(features, model.features(images(dtype)), rtol=0, atol=0)


def test_features_are_the_mean_of_the_tokens_of_the_tap():
    model = network()
    assert_close(model.features(images()), model.tokens(images(), block=2).mean(1), rtol=0, atol=0)
    assert (model.features(images()) - model.tokens(images(), block=3).mean(1)).abs().max() > 1e-3


def test_features_do_not_depend_on_the_blocks_after_the_tap():
    model = network()
    before = model.features(images())
    with torch.no_grad():
        model.blocks[2].table.add_(1.0)
    assert_close(model.features(images()), before, rtol=0, atol=0)
    with torch.no_grad():  # the control: a block before the tap does matter
        model.blocks[1].table.add_(1.0)
    assert (model.features(images()) - before).abs().max() > 1e-3


def test_features_take_pixels_as_they_are_in_the_dataset():
    model = network()
    standard = DiffusionTransformer(SMALL, facts={"shape": [2, 4, 6], "mean": [0.0, 0.0], "std": [1.0, 1.0]}).double()
    standard.load_state_dict(model.state_dict())
    pixels = images() * torch.tensor([2.0, 0.25])[:, None, None] + torch.tensor([0.5, -1.0])[:, None, None]
    assert_close(model.features(pixels), standard.features(images()), rtol=1e-12, atol=1e-12)


def test_features_tell_where_a_patch_is():
    model, moved = network(), images().roll(2, dims=3)  # by one patch, so the set of patches is the same
    assert (model.features(images()) - model.features(moved)).abs().max() > 1e-3


def test_without_positions_features_do_not_tell_where_a_patch_is():
    model, moved = network(), images().roll(2, dims=3)
    with torch.no_grad():
        model.position.zero_()
    assert_close(model.features(images()), model.features(moved), rtol=1e-12, atol=1e-12)


def test_weights_do_not_hold_what_the_facts_already_say():
    names = set(network().state_dict())
    assert not {name for name in names if "scale" in name or "wave_numbers" in name}


def test_facts_are_gathered_from_training_images():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(7, 2, 4, 6)) * np.array([3.0, 0.1])[:, None, None] + np.array([1e4, 2.0])[:, None, None]
    facts = DiffusionTransformer.gather_facts(SMALL, iter(samples))
    assert facts["shape"] == [2, 4, 6]
    np.testing.assert_allclose(facts["mean"], samples.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(facts["std"], samples.std(axis=(0, 2, 3)), rtol=1e-9)


def test_build_is_the_constructor():
    model = DiffusionTransformer.build(SMALL, {}, FACTS)
    assert model.dim == 16
    assert model.shape == (2, 4, 6)


def test_an_embedding_is_refused():
    with pytest.raises(SettingError, match="radial"):
        DiffusionTransformer.build(SMALL, {"radial": {"name": "bessel"}}, FACTS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("dim", 30), ("layers", 0), ("heads", 0), ("patch", 0), ("tap", 0), ("tap", 5), ("expansion", 0.0)],
)
def test_a_setting_out_of_range_is_named(setting, value):
    with pytest.raises(SettingError) as caught:
        DiffusionTransformerConfig(**{setting: value})
    assert caught.value.field == setting


def test_a_patch_that_does_not_divide_the_image_is_refused():
    with pytest.raises(SettingError, match="4 x 6 pixels"):
        DiffusionTransformer(DiffusionTransformerConfig(patch=4), facts=FACTS)


def test_a_block_that_is_not_there_is_refused():
    with pytest.raises(SettingError, match="from 1 to 3"):
        network().tokens(images(), block=4)


@pytest.mark.parametrize("samples", [[], [np.zeros((4, 6))], [np.zeros((1, 4, 6)), np.zeros((1, 6, 4))]])
def test_facts_of_no_images_or_of_unequal_ones_are_refused(samples):
    with pytest.raises(SettingError):
        DiffusionTransformer.gather_facts(SMALL, samples)


def test_a_constant_channel_is_refused():
    with pytest.raises(SettingError, match="constant"):
        DiffusionTransformer(SMALL, facts={**FACTS, "std": [1.0, 0.0]})


def test_the_network_fits_one_batch():
    model = network(torch.float32, redrawn=False).train()
    x, t, target = images(torch.float32), times(torch.float32), images(torch.float32).flip(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (model(x, t) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    assert math.isfinite(losses[-1])
