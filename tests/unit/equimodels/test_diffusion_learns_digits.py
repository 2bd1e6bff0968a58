"""What 400 steps on scikit-learn's digits teach: a loss below the Gaussian floor, features beyond an untrained twin.

The twin has the same weights, with those that start at zero drawn. Neighbours and a probe of 100 labels tell the two
apart: with all 1,347 labels a linear probe of standardised features reads 93 % of an untrained network too.
"""

import copy
from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from equimodels.evaluation.knn import knn_accuracy
from equimodels.evaluation.linear_probe import linear_probe
from equimodels.models.diffusion_transformer import DiffusionTransformer, DiffusionTransformerConfig
from equimodels.models.images import ImageBatch
from equimodels.objectives.flow_matching import FlowMatching, FlowMatchingConfig, interpolate
from equimodels.objectives.gaussian_floor import covariance_eigenvalues, linear_gaussian_floor

pytestmark = pytest.mark.slow
STEPS, BATCH, PEAK = 400, 64, 2e-3


@dataclass
class Digits:
    """1,347 digits for training and 450 held out, and the network after training and before."""

    train: ImageBatch
    held_out: ImageBatch
    objective: FlowMatching
    trained: DiffusionTransformer
    untrained: DiffusionTransformer

    def features(self, model: DiffusionTransformer, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features and labels of both parts, of images with noise of that level."""
        found = []
        for part, seed in ((self.train, 1), (self.held_out, 2)):
            x = model.scale.standardise(part.pixels)
            e = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
            noisy = model.scale.restore(interpolate(x, e, torch.full((len(x),), noise)))
            with torch.no_grad():
                found += [model.features(noisy, noise), part.labels]
        return tuple(found)


@pytest.fixture(scope="module")
def digits() -> Digits:
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(pixels / 16).float().view(-1, 1, 8, 8)[order]
    named = torch.from_numpy(labels).long()[order]
    train, held_out = ImageBatch(images[:1347], named[:1347]), ImageBatch(images[1347:], named[1347:])
    config = DiffusionTransformerConfig()
    facts = DiffusionTransformer.gather_facts(config, iter(train.pixels.numpy()))
    torch.manual_seed(0)
    model, objective = DiffusionTransformer(config, facts=facts), FlowMatching(FlowMatchingConfig(), facts)
    untrained = copy.deepcopy(model).eval()
    untrained.redraw_zero_init(torch.Generator().manual_seed(0))

    average, generator = copy.deepcopy(model).eval(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=1e-6)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1.0, (step + 1) / 50) * (1 - step / STEPS)
        chosen = torch.randint(len(train.pixels), (BATCH,), generator=generator)
        loss, _ = objective(model, ImageBatch(train.pixels[chosen], train.labels[chosen]), generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            weight = 1 - min(0.99, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), weight)
    return Digits(train, held_out, objective, average, untrained)


def held_out_loss(digits: Digits, model: DiffusionTransformer) -> float:
    total, count = digits.objective.evaluate(model, digits.held_out, torch.Generator().manual_seed(3))["loss"]
    return float(total / count)


def test_the_held_out_loss_is_below_the_floor_of_any_linear_predictor(digits):
    covariance = covariance_eigenvalues(digits.trained.scale.standardise(digits.train.pixels))
    floor = linear_gaussian_floor(covariance, FlowMatchingConfig())
    assert held_out_loss(digits, digits.trained) < 0.95 * floor
    assert held_out_loss(digits, digits.untrained) > floor


def test_neighbours_agree_on_the_class_where_those_of_the_untrained_network_do_not(digits):
    trained, untrained = (knn_accuracy(*digits.features(m)) for m in (digits.trained, digits.untrained))
    assert trained >= untrained + 0.3


def test_a_hundred_labels_say_more_than_on_an_untrained_network(digits):
    def accuracy(model):
        x, y, test_x, test_y = digits.features(model)
        return linear_probe(x[:100], y[:100], test_x, test_y, decays=(1e-2, 1e-1)).accuracy

    assert accuracy(digits.trained) >= accuracy(digits.untrained) + 0.15


def test_a_linear_probe_of_all_labels_reads_the_digits(digits):
    assert linear_probe(*digits.features(digits.trained)).accuracy >= 0.92


def test_features_of_noisier_images_say_less(digits):
    accuracies = [linear_probe(*digits.features(digits.trained, t), decays=(1e-2,)).accuracy for t in (0.1, 0.4, 0.7)]
    assert accuracies[0] > accuracies[1] > accuracies[2]
