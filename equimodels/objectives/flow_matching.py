"""Flow matching: learn the velocity of the straight lines from images to noise.

Shapes: B images, C channels, H x W pixels. Time: t = 0 is data, t = 1 is noise (other codes count the other way).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from equimodels.components import objectives
from equimodels.errors import require
from equimodels.models.images import ImageBatch, PixelScale

Velocity = Callable[[Tensor, Tensor], Tensor]  # x_t (B, C, H, W), t (B,) -> (B, C, H, W)


@dataclass(frozen=True, kw_only=True)
class FlowMatchingConfig:
    """Settings of `FlowMatching`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    # t = sigmoid(mean + std n). Shifting the times by a factor s for large images (t / (1 - t) -> s t / (1 - t)) is
    # adding log s to the mean, so there is no setting of its own for it.
    logit_mean: float = 0.0
    logit_std: float = 1.0
    evaluation_draws: int = 4  # noises and times an image is judged at

    def __post_init__(self) -> None:
        require(abs(self.logit_mean) <= 10, "logit_mean", self.logit_mean, "from -10 to 10")
        require(0 < self.logit_std <= 10, "logit_std", self.logit_std, "above 0, at most 10")
        require(self.evaluation_draws >= 1, "evaluation_draws", self.evaluation_draws, "at least 1")


@objectives.register("flow_matching", config=FlowMatchingConfig)
class FlowMatching:
    """loss = mean |forward(x_t, t) - (e - x)|^2 with x_t = (1 - t) x + t e, e ~ N(0, 1), t logit-normal.

    x are the pixels on the scale of `facts`: mean 0, variance 1, so predicting zero gives a loss of 2. Lipman et al.
    2023; the law of the times is that of Esser et al. 2024. Metrics are tensors (sum, count), float64.
    """

    samples: ClassVar[str] = "images"
    metrics: ClassVar[tuple[str, ...]] = ("loss",)

    def __init__(self, config: FlowMatchingConfig, facts: Mapping[str, Any]) -> None:
        self.config = config
        self.scale = PixelScale.from_facts(facts)

    def __call__(
        self, forward: Velocity, batch: ImageBatch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar with gradient, and the metrics of the batch, without.

        forward: the model or an engine around it, in training mode. generator: of times and noise.
        """
        x = self.scale.standardise(batch.pixels)
        normal = _normal((len(x),), x, generator)
        t = torch.sigmoid(self.config.logit_mean + self.config.logit_std * normal)
        squares = self._squares(forward, x, t, generator)
        return squares.mean(), {"loss": _sum_and_count(squares.detach())}

    @torch.no_grad()
    def evaluate(
        self, forward: Velocity, batch: ImageBatch, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The same loss, less noisy: every image `evaluation_draws` times, at times spread evenly over their law.

        Two generators of one seed give the same value; give the same one at every evaluation of a run.
        """
        x = self.scale.standardise(batch.pixels).repeat(self.config.evaluation_draws, 1, 1, 1)
        levels = (torch.arange(len(x), dtype=torch.float64) + 0.5) / len(x)
        order = torch.rand(len(x), generator=generator, device=_home(generator, x)).argsort().cpu()
        t = torch.sigmoid(self.config.logit_mean + self.config.logit_std * torch.special.ndtri(levels[order])).to(x)
        return {"loss": _sum_and_count(self._squares(forward, x, t, generator))}

    def _squares(self, forward: Velocity, x: Tensor, t: Tensor, generator: torch.Generator | None) -> Tensor:
        e = _normal(x.shape, x, generator)
        predicted = forward(interpolate(x, e, t), t)
        return F.mse_loss(predicted, e - x, reduction="none").flatten(1).mean(dim=1)


def interpolate(x: Tensor, e: Tensor, t: Tensor) -> Tensor:
    """(1 - t) x + t e for data x and noise e (B, C, H, W) at times t (B,): x at t = 0, e at t = 1."""
    t = t[:, None, None, None]
    return (1 - t) * x + t * e


def _sum_and_count(values: Tensor) -> Tensor:
    return torch.stack([values.double().sum(), values.new_tensor(len(values), dtype=torch.float64)])


def _home(generator: torch.Generator | None, like: Tensor) -> torch.device:
    """Numbers are drawn where the generator is: one on the CPU gives a GPU the same ones."""
    return like.device if generator is None else generator.device


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    # In float32 for every dtype, so that runs in different precision see the same noise.
    return torch.randn(shape, generator=generator, device=_home(generator, like)).to(like)
