"""Activation checkpointing: what a block computes is forgotten and computed again in the backward pass.

Chen et al. 2016. A block is an entry of a `nn.ModuleList`: a layer of a potential, a block of a transformer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from jobs.strategy.dual import carried, join, split


def blocks(model: nn.Module) -> list[nn.Module]:
    """The entries of the outermost lists of modules, in order."""
    if isinstance(model, nn.ModuleList):
        return list(model)
    return [block for child in model.children() for block in blocks(child)]


def recompute(model: nn.Module) -> None:
    """Let every block of `model` forget its activations; names and hooks of modules stay as they are."""
    for block in blocks(model):
        block.forward = _forgetful(block, block.forward)


def _forgetful(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return forward(*inputs)
        # Only this kind can be differentiated twice, which forces need. Dual numbers are gone when it computes again.
        return join(checkpoint(carried(forward), *split(inputs), use_reentrant=False))

    return run
