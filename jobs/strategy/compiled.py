"""torch.compile, block by block: blocks are alike, so one compilation serves all of them."""

from torch import nn

from jobs.strategy.recompute import blocks


def compile_blocks(model: nn.Module) -> None:
    """Compile every block of `model` in place; names stay as they are. It happens at the first call."""
    for block in blocks(model):
        block.compile()
