"""What the loop does with a rank's pieces: copy them, and cut a saved slot the same way."""

from collections.abc import Mapping

import torch

from jobs.state.piece import Find, Piece, Pieces


def copied(pieces: Mapping[str, Piece], device: torch.device | None = None) -> Pieces:
    """The same numbers in memory of their own, on `device` if one is given."""
    return {name: Piece(piece.start, piece.values.detach().to(device, copy=True)) for name, piece in pieces.items()}


def recut(find: Find, slot: str, layout: Mapping[str, Piece], device: torch.device | None = None) -> Pieces:
    """A saved slot in pieces like those of `layout`, wherever the saved ones began and ended.

    Raises KeyError where the state has no such slot.
    """
    return {
        name: Piece(
            piece.start,
            find(slot, name, piece.start, piece.stop).to(device or piece.values.device, piece.values.dtype),
        )
        for name, piece in layout.items()
    }
