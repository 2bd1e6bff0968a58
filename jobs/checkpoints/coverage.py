"""Whether the pieces of all ranks are the whole state: checked before a checkpoint counts."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from jobs.checkpoints.errors import CheckpointError
from jobs.checkpoints.index import Place
from jobs.state.piece import VALUE, holds_weights


def require_whole(pieces: Iterable[Place], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Each number of each parameter exactly once in each slot that has it, and no slot without a parameter it needs.

    Raises CheckpointError, which says what is missing or there twice.
    """
    spans: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for piece in pieces:
        spans[piece.slot, piece.parameter].append((piece.start, piece.start + piece.count))
    _require_all(spans.keys(), [name for name, shape in shapes.items() if math.prod(shape)])  # empty: no piece
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


def _require_all(held: Collection[tuple[str, str]], names: Collection[str]) -> None:
    """No slot lacks a parameter that it needs. held: (slot, parameter). names: of parameters with numbers.

    Weights are of all parameters. So are moments, once there are any: each parameter has all that go together, and
    which those are is seen from the others, as Muon has other ones than AdamW.
    """
    slots = {slot for slot, _ in held}
    weights = {slot for slot in slots if holds_weights(slot)} | {VALUE}
    of = {name: frozenset(slot for slot in slots if (slot, name) in held) for name in names}
    kinds = {found - weights for found in of.values()}
    for name, found in of.items():
        together = [kind for kind in kinds if kind & found] or list(kinds)
        if missing := (weights | frozenset().union(*together)) - found:
            raise CheckpointError(f"no rank holds the {min(missing)} of {name}")
