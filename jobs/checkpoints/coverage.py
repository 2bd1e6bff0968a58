"""Whether the pieces of all ranks are the whole state: checked before a checkpoint counts."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from jobs.checkpoints.errors import CheckpointError
from jobs.checkpoints.index import Place


def require_whole(pieces: Iterable[Place], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Each number of each parameter exactly once in each slot that has it; slot `value` has all parameters.

    Raises CheckpointError, which says what is missing or there twice.
    """
    spans: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for piece in pieces:
        spans[piece.slot, piece.parameter].append((piece.start, piece.start + piece.count))
    held = {parameter for slot, parameter in spans if slot == "value"}
    for name in [name for name, shape in shapes.items() if math.prod(shape) and name not in held]:  # empty: no piece
        raise CheckpointError(f"no rank holds the value of {name}")
    for (slot, name), found in spans.items():
        if name not in shapes:
            raise CheckpointError(f"{slot} of {name}: no parameter is called so")
        done = 0
        for start, stop in sorted(found):
            if start != done:
                what = "missing" if start > done else "there twice"
                raise CheckpointError(f"{slot} of {name}: numbers {min(start, done)} to {max(start, done)} are {what}")
            done = stop
        if done != math.prod(shapes[name]):
            raise CheckpointError(f"{slot} of {name}: {done} numbers of {math.prod(shapes[name])}")
