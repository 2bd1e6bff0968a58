"""A diffusion transformer: predicts the velocity of a flow from noise to images, and gives features of images.

Shapes: B images, C channels, H x W pixels, N tokens (one a patch), D features. Time: t = 0 is data, t = 1 is noise.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from equimodels.components import models
from equimodels.embeddings.time import FourierTime
from equimodels.errors import require
from equimodels.models.images import PixelScale, image_facts
from equimodels.models.transformer_block import Block, RMSNorm

# Standard deviation of the positions at the start. On scikit-learn's digits, 600 steps of 64 images: loss .80, .73, .66
# and .66, linear probe 90.9, 92.9, 95.1 and 94.4 % for .02, .1, .25 and 1. The common .02 is lost beside patches of 1.
POSITION_SPREAD = 0.25


@dataclass(frozen=True, kw_only=True)
class DiffusionTransformerConfig:
    """Settings of `DiffusionTransformer`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    dim: int = 64  # D; also the length of the features
    layers: int = 4
    heads: int = 4
    patch: int = 2  # pixels, side of a token
    tap: int = 3  # the block whose tokens are the features; the first is 1
    expansion: float = 2.75  # hidden features of the SwiGLU, in D
    time_features: int = 64

    def __post_init__(self) -> None:
        require(self.heads >= 1, "heads", self.heads, "at least 1")
        require(self.dim >= 1 and self.dim % self.heads == 0, "dim", self.dim, f"a multiple of heads ({self.heads})")
        require(self.layers >= 1, "layers", self.layers, "at least 1")
        require(self.patch >= 1, "patch", self.patch, "at least 1 pixel")
        require(1 <= self.tap <= self.layers, "tap", self.tap, f"from 1 to layers ({self.layers})")
        require(self.hidden >= 1, "expansion", self.expansion, "positive")
        FourierTime(self.time_features)

    @property
    def hidden(self) -> int:
        """Hidden features of the SwiGLU."""
        return round(self.expansion * self.dim)


@models.register("diffusion_transformer", config=DiffusionTransformerConfig)
class DiffusionTransformer(nn.Module):
    """Patches, blocks with adaLN-zero and one shared projection of the time, patches again.

    Peebles and Xie 2023 (DiT); the shared projection is that of Chen et al. 2023 (PixArt-alpha): with one for
    every block, a third of the weights would only read the time. Positions are learned and added once: a mean
    over tokens keeps only what each token knows of its own place, and rotary positions tell it nothing (digits,
    300 steps: loss .74 and linear probe 87.8 %, against .70 and 95.6 % with learned ones of spread 1).
    """

    def __init__(self, config: DiffusionTransformerConfig, *, facts: Mapping[str, Any]) -> None:
        super().__init__()
        channels, height, width = (int(n) for n in facts["shape"])
        p, d = config.patch, config.dim
        require(height % p == 0 and width % p == 0, "patch", p, f"a divisor of the image, {height} x {width} pixels")
        self.config = config
        self.dim = d
        self.shape = (channels, height, width)
        self.scale = PixelScale.from_facts(facts)
        self.patchify = nn.Linear(channels * p * p, d)
        self.position = nn.Parameter(POSITION_SPREAD * torch.randn((height // p) * (width // p), d))
        self.time = FourierTime(config.time_features)
        self.read_time = nn.Sequential(nn.Linear(config.time_features, d), nn.SiLU(), nn.Linear(d, d), nn.SiLU())
        self.modulation = nn.Linear(d, 6 * d)
        self.blocks = nn.ModuleList(Block(d, config.heads, config.hidden) for _ in range(config.layers))
        self.norm = RMSNorm()
        self.final_modulation = nn.Linear(d, 2 * d)
        self.unpatchify = nn.Linear(d, channels * p * p)
        for parameter in self._zero_initialised():
            nn.init.zeros_(parameter)

    @classmethod
    def build(cls, config: DiffusionTransformerConfig, embedding: Mapping[str, Any], facts: Mapping[str, Any]) -> Self:
        """The network with fresh weights. Raises SettingError, also for an embedding: it reads none."""
        require(not embedding, "embedding", sorted(embedding), "none: patches and times are embedded by the model")
        return cls(config, facts=facts)

    @classmethod
    def gather_facts(cls, config: DiffusionTransformerConfig, samples: Iterable[NDArray[Any]]) -> dict[str, Any]:
        """Shape, mean and spread of training images (C, H, W): see `image_facts`."""
        return image_facts(samples)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The velocity dx/dt at x_t.

        x_t: (B, C, H, W), standardised images with noise; t: (B,). Returns (B, C, H, W) in the dtype of x_t,
        which need not be that of the weights.
        """
        tokens, condition = self._run(x_t, t, len(self.blocks))
        shift, scale = self.final_modulation(condition)[:, None].chunk(2, dim=-1)
        patches = self.unpatchify(torch.addcmul(shift, self.norm(tokens), 1 + scale))
        return self._from_patches(patches).to(x_t.dtype)

    def tokens(self, x: Tensor, t: float = 0.0, *, block: int | None = None) -> Tensor:
        """What leaves `block` (the tap, if not given; the first is 1) for images x (B, C, H, W) as in the dataset.

        t: the noise level the network is told; nothing is added to x. Returns (B, N, D), tokens in reading order.
        Raises SettingError for a block that the network has not.
        """
        block = self.config.tap if block is None else block
        require(1 <= block <= len(self.blocks), "block", block, f"from 1 to {len(self.blocks)}")
        standardised = self.scale.standardise(x)
        return self._run(standardised, x.new_full((len(x),), t), block)[0]

    def features(self, x: Tensor, t: float = 0.0) -> Tensor:
        """One vector an image: the mean of its tokens after the block `tap`.

        x: (B, C, H, W), pixels as in the dataset; t: the noise level the network is told, 0 for clean images.
        Returns (B, D) in the dtype of the weights.
        """
        return self.tokens(x, t).mean(dim=1)

    @torch.no_grad()
    def redraw_zero_init(self, generator: torch.Generator | None = None) -> None:
        """Draw what starts at zero as `nn.Linear` would have: for the untrained network to compare with.

        With gates of zero an untrained network is the identity, and beating it shows nothing.
        """
        bound = 1 / math.sqrt(self.dim)  # of nn.Linear, for D inputs: the tables are added to its bias
        for parameter in self._zero_initialised():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def _zero_initialised(self) -> Iterator[Tensor]:
        for layer in (self.modulation, self.final_modulation, self.unpatchify):
            yield from (layer.weight, layer.bias)
        for block in self.blocks:
            assert isinstance(block, Block)  # a ModuleList does not know
            yield block.table

    def _run(self, x: Tensor, t: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) after the first `blocks` blocks, and the condition (B, D)."""
        condition = self.read_time(self.time(t).to(self.position.dtype))
        modulation = self.modulation(condition).view(-1, 6, self.dim)
        tokens = self.patchify(self._to_patches(x.to(self.position.dtype))) + self.position
        for block in self.blocks[:blocks]:
            tokens = block(tokens, modulation)
        return tokens, condition

    def _to_patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, C p p)."""
        channels, height, width = self.shape
        p = self.config.patch
        grid = x.reshape(-1, channels, height // p, p, width // p, p)
        return grid.permute(0, 2, 4, 1, 3, 5).reshape(len(x), -1, channels * p * p)

    def _from_patches(self, patches: Tensor) -> Tensor:
        """The inverse of `_to_patches`."""
        channels, height, width = self.shape
        p = self.config.patch
        grid = patches.view(-1, height // p, width // p, channels, p, p)
        return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)
