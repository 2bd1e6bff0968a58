"""A small training state, shared out as strategies do it, and ranks that are threads."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jobs.checkpoints import RunCheckpoints
from jobs.ports import Saved
from jobs.state.piece import Piece, Slots
from jobs.world import World

SHAPES = {"embed.weight": (5, 3), "layer.weight": (4, 4), "layer.bias": (4,), "scale": ()}
HOME = "runs/r1/checkpoints"
Whole = dict[str, dict[str, Tensor]]


def state(seed: int, slots: tuple[str, ...] = ("value", "exp_avg")) -> Whole:
    """Whole flattened tensors: slot -> parameter -> (n,)."""
    generator = torch.Generator().manual_seed(seed)
    return {
        slot: {name: torch.randn(shape, generator=generator).reshape(-1) for name, shape in SHAPES.items()}
        for slot in slots
    }


def whole(found: Saved) -> Whole:
    """Everything that a checkpoint holds."""
    return {
        slot: {name: found.find(slot, name, 0, int(torch.Size(shape).numel())) for name, shape in found.shapes.items()}
        for slot in found.slots
    }


def same(first: Whole, second: Whole) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[slot][name], second[slot][name]) for slot in first for name in SHAPES
    )


def alone(everything: Whole, rank: int, size: int) -> Slots:
    """The leading rank holds all."""
    return by_parameter(everything, 0, 1) if rank == 0 else {}


def by_parameter(everything: Whole, rank: int, size: int) -> Slots:
    """Whole parameters in turn, as where all is replicated."""
    return {
        slot: {name: Piece(0, values) for name, values in list(parameters.items())[rank::size]}
        for slot, parameters in everything.items()
    }


def by_rows(everything: Whole, rank: int, size: int) -> Slots:
    """Chunks of the first dimension of each parameter, as FSDP2 makes them."""
    slots: Slots = {}
    for slot, parameters in everything.items():
        slots[slot] = {}
        for name, values in parameters.items():
            rows = SHAPES[name][0] if SHAPES[name] else 1
            chunk, width = -(-rows // size), values.numel() // rows
            start, stop = min(rows, rank * chunk) * width, min(rows, (rank + 1) * chunk) * width
            if start < stop:
                slots[slot][name] = Piece(start, values[start:stop])
    return slots


def flat(everything: Whole, rank: int, size: int) -> Slots:
    """Equal parts of all parameters laid end to end, as ZeRO makes them."""
    total = sum(values.numel() for values in everything["value"].values())
    chunk = -(-total // size)
    slots: Slots = {}
    for slot, parameters in everything.items():
        slots[slot], offset = {}, 0
        for name, values in parameters.items():
            start, stop = max(0, rank * chunk - offset), min(values.numel(), (rank + 1) * chunk - offset)
            if start < stop:
                slots[slot][name] = Piece(start, values[start:stop])
            offset += values.numel()
    return slots


Layout = Callable[[Whole, int, int], Slots]


class Threads:
    """Ranks that are threads of this process: what `World` is to processes."""

    def __init__(self, size: int) -> None:
        self.size, self._barrier, self._values = size, threading.Barrier(size), [None] * size

    def world(self, rank: int) -> World:
        group = self

        class Member(World):
            def gather(self, value: Any) -> list[Any]:
                group._barrier.wait(30)
                group._values[self.rank] = value
                group._barrier.wait(30)
                return list(group._values)

        return Member(rank, self.size)


@dataclass
class Ranks:
    """The checkpoints of all ranks of one attempt at a run."""

    ranks: list[RunCheckpoints]
    layout: Layout

    def each(self, call: Callable[[RunCheckpoints, int], Any]) -> list[Any]:
        with ThreadPoolExecutor(len(self.ranks)) as pool:
            return list(pool.map(call, self.ranks, range(len(self.ranks))))

    def save(self, step: int, everything: Whole, *, best: bool = False, notes: Mapping[str, Any] | None = None) -> None:
        """On all ranks, to the commit."""
        size = len(self.ranks)

        def one(checkpoints: RunCheckpoints, rank: int) -> None:
            slots = self.layout(everything, rank, size)
            checkpoints.save(step, slots, SHAPES, {"step": step} if notes is None else notes, best=best)
            checkpoints.finish()

        self.each(one)

    def newest(self) -> list[Saved | None]:
        found = self.each(lambda checkpoints, rank: checkpoints.newest())
        self.each(lambda checkpoints, rank: checkpoints.finish())
        return found
