"""Pieces of a training state laid out as one safetensors file, before a byte of it is written."""

import json
from dataclasses import dataclass

from jobs.checkpoints.index import NAMES, Place
from jobs.state.piece import Slots


@dataclass(frozen=True)
class Packing:
    """The head of a file, and where each piece goes. body: bytes after the head."""

    head: bytes
    body: int
    places: tuple[Place, ...]


def packed(slots: Slots) -> Packing:
    """Lay the pieces out, wide numbers first, so that each is aligned to its own width.

    A tensor of the file is called `<slot>/<parameter>`; the index in its flattened parameter at which it starts is in
    the file's metadata. Raises ValueError for numbers that a checkpoint does not hold, such as integers.
    """
    pieces = [(slot, name, piece) for slot, parameters in slots.items() for name, piece in parameters.items()]
    for slot, name, piece in pieces:
        if piece.values.dtype not in NAMES:
            raise ValueError(f"{slot} of {name} is {piece.values.dtype}; checkpoints hold {', '.join(map(str, NAMES))}")
    pieces.sort(key=lambda item: -item[2].values.dtype.itemsize)
    header: dict[str, object] = {}
    starts, offset, spans = {}, 0, []
    for slot, name, piece in pieces:
        size = piece.values.numel() * piece.values.dtype.itemsize
        dtype = NAMES[piece.values.dtype]
        spans.append(Place(slot, name, dtype, piece.start, piece.values.numel(), offset))
        header[f"{slot}/{name}"] = {
            "dtype": dtype,
            "shape": [piece.values.numel()],
            "data_offsets": [offset, offset + size],
        }
        if piece.start:
            starts[f"{slot}/{name}"] = piece.start
        offset += size
    text = json.dumps({"__metadata__": {"starts": json.dumps(starts)}, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    places = tuple(
        Place(place.slot, place.parameter, place.dtype, place.start, place.count, place.offset + len(head))
        for place in spans
    )
    return Packing(head, offset, places)
