"""A training run that is small enough to follow by hand: y = x . w, with an engine, ranks and checkpoints of a page.

The engine shards by halves of each parameter, the ranks are threads, and the checkpoints are dictionaries. What the
loop does with them is what it does with the real ones, in milliseconds.
"""

import contextlib
import copy
import math
import threading
from dataclasses import dataclass, field

import torch
from torch import nn

from jobs.loop import train
from jobs.ports import Ports, Saved, never
from jobs.spec.train import TrainSpec
from jobs.state.piece import Piece
from jobs.world import World

SAMPLES, BATCH = 40, 8
ALONE = World()
TRUTH = torch.tensor([2.0, -1.0, 0.5])


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x @ self.weight


class Pairs(tuple):
    def to(self, device):
        return self


class Points:
    """40 points in the order of another permutation each epoch; micro-batch j of rank r is share j * world + r."""

    samples = SAMPLES

    def __init__(self, world=ALONE, micro=BATCH, *, epochs=None, poison=(), spikes=(), samples=SAMPLES):
        self.x = torch.randn(samples, 3, generator=torch.Generator().manual_seed(0))
        self.y = self.x @ TRUTH
        self.y[list(poison)] = math.nan
        self.y[list(spikes)] += 1e6
        self.world, self.micro, self.epochs, self.samples = world, micro, epochs, samples
        self.consumed, self.rows, self.given = 0, torch.arange(0), []

    def __iter__(self):
        end = None if self.epochs is None else self.consumed + self.epochs * self.samples
        while end is None or self.consumed < end:
            stop = self.consumed + self.world.size * self.micro
            stop = stop if end is None else min(stop, end)
            places = range(self.consumed, stop)[self.world.rank * self.micro :][: self.micro]
            self.consumed = stop
            if places:
                self.rows = torch.tensor([self._row(place) for place in places])
                self.given.append(self.rows.tolist())
                yield Pairs((self.x[self.rows], self.y[self.rows]))

    def _row(self, place):
        epoch, place = divmod(place, self.samples)
        if self.epochs is not None:
            return place  # validation: as they lie
        return int(torch.randperm(self.samples, generator=torch.Generator().manual_seed(epoch))[place])

    def identifiers(self, rows=None):
        return [f"point-{row}" for row in (self.rows if rows is None else rows)]

    def state(self):
        return {"consumed": self.consumed}

    def load_state(self, state):
        self.consumed = state["consumed"]


class SquaredError:
    """Mean squared error with noise from the loop's generator, so that the test sees the generator being reused."""

    def __call__(self, forward, batch, generator):
        noise = 0.1 * torch.randn(len(batch[1]), generator=generator)
        squares = (forward(batch[0]) - batch[1] - noise).square()
        return squares.mean(), {"loss": torch.stack([squares.detach().double().sum(), torch.tensor(len(squares))])}

    def evaluate(self, forward, batch, generator):
        noise = 0.1 * torch.randn(len(batch[1]), generator=generator)
        errors = (forward(batch[0]) - batch[1] - noise).square().double()
        return {"loss": torch.stack([errors.sum(), torch.tensor(float(len(errors))).double()])}


class HalvesEngine:
    """Gradient descent with momentum; rank r holds the r-th stretch of each flattened parameter."""

    def __init__(self, module, spec, world):
        self.module, self.world, self.parts = module, world, spec.accumulation(world.size)
        self.clipping, self.steps, self.forwards, self.installs = spec.strategy.gradient_clipping, 0, 0, 0
        self.momentum = {name: torch.zeros_like(piece.values) for name, piece in self.values().items()}

    def forward(self, x):
        self.forwards += 1
        return self.module(x)

    def backward(self, loss, *, last=True):
        torch.autograd.backward([loss / (self.parts * self.world.size)])

    @torch.no_grad()
    def step(self, lr, *, limit=math.inf):
        gradients = self.world.sum({name: p.grad for name, p in self.module.named_parameters()})
        norm = float(torch.sqrt(sum(g.double().square().sum() for g in gradients.values())))
        self.module.zero_grad()
        if not math.isfinite(norm) or norm > limit:
            return norm
        factor = min(1.0, self.clipping / norm)
        for name, piece in self.values().items():
            own = gradients[name].flatten()[piece.start : piece.stop].to(piece.values.dtype)
            self.momentum[name].mul_(0.5).add_(factor * own)
            piece.values.sub_(lr * self.momentum[name])
        self.steps += 1
        self._exchange()
        return norm

    def shapes(self):
        return {name: tuple(p.shape) for name, p in self.module.named_parameters()}

    def values(self):
        found = {}
        for name, p in self.module.named_parameters():
            start, stop = (rank * p.numel() // self.world.size for rank in (self.world.rank, self.world.rank + 1))
            found[name] = Piece(start, p.data.view(-1)[start:stop])
        return found

    def moments(self):
        pieces = {name: Piece(piece.start, self.momentum[name]) for name, piece in self.values().items()}
        return {"momentum": pieces} if self.steps else {}

    def counters(self):
        return {"steps": self.steps}

    def install(self, values):
        self.installs += 1
        for name, piece in self.values().items():
            piece.values.copy_(values[name].values)
        self._exchange()

    def load(self, find, counters):
        self.steps = counters["steps"]
        for name, piece in self.values().items():
            piece.values.copy_(find("value", name, piece.start, piece.stop))
            if self.steps:
                self.momentum[name] = find("momentum", name, piece.start, piece.stop).clone()
        self._exchange()

    def _exchange(self):
        parts = self.world.gather({name: piece.values.clone() for name, piece in self.values().items()})
        for name, p in self.module.named_parameters():
            p.data.copy_(torch.cat([part[name] for part in parts]).view_as(p))


class Board:
    """Where ranks that are threads exchange values."""

    def __init__(self, size):
        self.barrier, self.values = threading.Barrier(size, timeout=20), [None] * size


@dataclass(frozen=True)
class ThreadWorld(World):
    board: Board = field(default_factory=lambda: Board(1), compare=False)

    def gather(self, value):
        self.board.values[self.rank] = value
        self.board.barrier.wait()
        found = list(self.board.values)
        self.board.barrier.wait()
        return found

    def sum(self, values):
        parts = self.gather(values)
        assert all(sorted(part) == sorted(values) for part in parts)
        return {name: sum(part[name].double() for part in parts) for name in values}

    def any(self, flag):
        return any(self.gather(flag))


class Memory:
    """Checkpoints and records of a run; `dies_at` ends the run right after that step's commit."""

    def __init__(self, dies_at=None):
        self.dies_at, self.saved, self.best = dies_at, {}, set()
        self.records, self.progress, self.events, self.finished = [], [], [], 0

    def checkpoints(self, world):
        return MemoryCheckpoints(self, world)

    def measured(self, step, values):
        assert "valid/loss" in values
        times = ("train/data_wait", "memory/")
        self.records.append((step, {name: value for name, value in values.items() if not name.startswith(times)}))

    def progressed(self, step, values):
        assert values["step"] == step
        assert all(math.isfinite(value) for value in values.values())
        self.progress.append(dict(values))

    def happened(self, step, what, details):
        self.events.append((step, what, dict(details)))

    @property
    def losses(self):
        return [values["loss"] for values in self.progress]


class MemoryCheckpoints:
    def __init__(self, memory, world):
        self.memory, self.world = memory, world

    def newest(self):
        whole = [step for step, (size, ranks, *_) in self.memory.saved.items() if len(ranks) == size]
        return self.open(max(whole)) if whole else None

    def open(self, step):
        _, ranks, shapes, notes = self.memory.saved[step]

        def find(slot, name, start, stop):
            found = torch.full((math.prod(shapes[name]),), math.nan)
            for slots in ranks.values():
                piece = slots[slot].get(name)
                if piece is not None:
                    found[piece.start : piece.stop] = piece.values
            assert not found[start:stop].isnan().any()
            return found[start:stop]

        return Saved(step, copy.deepcopy(notes), shapes, tuple(ranks[0]), find)

    def save(self, step, slots, shapes, notes, *, best):
        own = {
            slot: {name: Piece(p.start, p.values.clone()) for name, p in pieces.items()}
            for slot, pieces in slots.items()
        }
        told = self.world.gather(copy.deepcopy(notes))
        assert all(one == told[0] for one in told)
        if self.world.leads:  # one of this step, which was resumed from, gives way
            self.memory.saved[step] = (self.world.size, {}, shapes, notes)
        self.world.gather(None)
        self.memory.saved[step][1][self.world.rank] = own
        self.world.gather(None)
        if best:
            self.memory.best.add(step)
        if step == self.memory.dies_at:
            raise KeyboardInterrupt

    def finish(self):
        self.memory.finished += 1


def spec(**changes):
    base = {
        "spec_version": 1,
        "kind": "train",
        "name": "line",
        "data": {"uri": "datasets/line@1", "batch": {"structures": BATCH}},
        "model": {"name": "line"},
        "objective": {"name": "squared_error"},
        "schedule": {"steps": 30, "warmup": 3, "eval_every": 10, "ema": 0.9},
        "optimizer": {"params": {"lr": 0.05}},
        "strategy": {"kind": "single"},
        "resources": {"workers": 1},
        "checkpoint": {"every_steps": 10},
    }
    return TrainSpec.model_validate(base).with_changes(changes)


def elastic(**changes):
    """The same run on one or two workers."""
    return spec(**{"strategy.kind": "ddp", "resources.workers": {"min": 1, "max": 2}, **changes})


def run(memory, wanted, workers=1, *, stop=never, training=None, validation=None):
    """(outcome, engine), of all ranks where there are several. training, validation: keywords of `Points`."""
    board, results, errors = Board(workers), [None] * workers, [None] * workers

    def rank(number):
        world = ThreadWorld(number, workers, board=board) if workers > 1 else World()
        engine = HalvesEngine(Line(), wanted, world)
        micro = BATCH // wanted.accumulation(workers) // workers
        points = Points(world, micro, **(training or {}))
        held_out = Points(world, micro, epochs=1, **(validation or {}))
        ports = Ports(memory, memory.checkpoints(world), stop)
        try:
            outcome = train(wanted, engine, SquaredError(), points, held_out, ports, world, torch.device("cpu"))
            engine.points = points
            results[number] = (outcome, engine)
        except BaseException as error:
            errors[number] = error  # all ranks raise, or those that wait for this one lose patience

    if workers == 1:
        rank(0)
    else:
        threads = [threading.Thread(target=rank, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    raised = [error for error in errors if error and not isinstance(error, threading.BrokenBarrierError)]
    if raised:
        raise raised[0]
    return results[0] if workers == 1 else results


def interrupted(memory, wanted, at, workers=1, **how):
    """Run until the checkpoint after step `at`."""
    memory.dies_at = at
    with contextlib.suppress(KeyboardInterrupt):
        run(memory, wanted, workers, **how)
        raise AssertionError("the run was not interrupted")
    memory.dies_at = None
