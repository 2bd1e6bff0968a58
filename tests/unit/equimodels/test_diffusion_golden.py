"""The losses of twenty training steps are those on file. Running this file with Python writes them anew.

A change here is a change of what every stored model means: say so in the changelog.
"""

import json
from pathlib import Path

import pytest
import torch

from equimodels.models.diffusion_transformer import DiffusionTransformer, DiffusionTransformerConfig
from equimodels.models.images import ImageBatch
from equimodels.objectives.flow_matching import FlowMatching, FlowMatchingConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "diffusion_transformer_losses.json"
STEPS = 20


def losses(lr: float = 1e-2) -> list[float]:
    """Twenty steps of Adam in float64 on images of a smooth random pattern."""
    generator = torch.Generator().manual_seed(0)
    config = DiffusionTransformerConfig(dim=16, layers=2, heads=2, patch=2, tap=1, time_features=8)
    facts = {"shape": [1, 4, 4], "mean": [0.2], "std": [0.5]}
    model = DiffusionTransformer(config, facts=facts).double().train()
    objective = FlowMatching(FlowMatchingConfig(), facts)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.any():  # what starts at zero stays there
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    found = []
    for _ in range(STEPS):
        pixels = torch.randn(16, 1, 4, 4, generator=generator, dtype=torch.float64).cumsum(2).cumsum(3)
        loss, _ = objective(model, ImageBatch(pixels, torch.zeros(16, dtype=torch.int64)), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_twenty_steps_of_training_give_the_losses_on_file():
    expected = json.loads(GOLDEN.read_text())["losses"]
    assert len(expected) == STEPS
    assert losses() == pytest.approx(expected, rel=1e-7)


def test_another_learning_rate_gives_other_losses():
    expected = json.loads(GOLDEN.read_text())["losses"]
    assert losses(lr=1.001e-2) != pytest.approx(expected, rel=1e-7)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({"steps": STEPS, "losses": losses()}, indent=1) + "\n")
