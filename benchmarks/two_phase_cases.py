"""What two_phase.py measures: potentials of several sizes, steps of an engine on them, and bytes kept for gradients."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from equimodels.models.gaunt_potential import EnergyForces, GauntPotential, GauntPotentialConfig
from equimodels.models.graph import AtomGraph, Structure
from equimodels.objectives.energy_force import EnergyForce, EnergyForceConfig, LabelledGraph
from equimodels.ops import gaunt_convolution
from equimodels.ops.edge_product import edge_product_plain
from equimodels.ops.gaunt_power import GauntPower
from jobs.spec.train import TrainSpec
from jobs.strategy import dual
from jobs.strategy.build import make_engine
from jobs.strategy.engine import Engine
from jobs.world import World

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """A potential and a batch: structures of so many atoms, 2.1 angstrom apart, within 5 angstrom of each other."""

    name: str
    structures: int
    atoms: int
    channels: int
    lmax: int
    layers: int


SIZES = (
    Size("small", 8, 9, 32, 2, 2),
    Size("medium", 4, 32, 32, 2, 2),
    Size("high degree", 2, 32, 32, 3, 3),
)
QUICK = (Size("tiny", 2, 5, 4, 1, 2),)


def model_of(size: Size) -> GauntPotential:
    """A potential with weights of seed 0, in training mode."""
    config = GauntPotentialConfig(lmax=size.lmax, channels=size.channels, layers=size.layers)
    facts = {
        "species": [1, 6, 8],
        "reference_energies": [-13.6, -1030.0, -2040.0],
        "force_rms": 1.3,
        "mean_neighbours": 20.0,
    }
    torch.manual_seed(0)
    embedding = {"radial": {"name": "bessel", "params": {"number": 8}}}
    model = GauntPotential.build(config, embedding, facts).train()
    torch.nn.init.normal_(model.readout_last)  # zero at first: then most gradients were zero
    return model


def batch_of(size: Size, seed: int = 0, share: slice = slice(None)) -> LabelledGraph:
    """Random structures with random labels; of them, those of a share."""
    random, parts = np.random.default_rng(seed), []
    side = int(np.ceil(size.atoms ** (1 / 3)))
    grid = np.indices((side,) * 3).reshape(3, -1).T[: size.atoms] * 2.1
    for _ in range(size.structures):
        x = grid + random.normal(scale=0.15, size=grid.shape)
        parts.append(Structure.of(random.choice([1, 6, 8], len(x)), x, 5.0, torch.float32))
    forces = random.normal(size=(size.structures, size.atoms, 3))[share].reshape(-1, 3)
    energy = random.normal(size=size.structures)[share]
    return LabelledGraph(AtomGraph.collate(parts[share]), torch.from_numpy(energy), torch.from_numpy(forces).float())


def engine_of(size: Size, strategy: dict[str, Any], world: World, device: torch.device = CPU) -> Engine:
    """As a worker makes it."""
    spec = {
        "spec_version": 1,
        "kind": "train",
        "name": "two-phase",
        "data": {"uri": "datasets/none@1", "batch": {"structures": world.size * size.structures}},
        "model": {"name": "gaunt_potential"},
        "objective": {"name": "energy_force"},
        "strategy": strategy,
        "resources": {"workers": world.size},
    }
    return make_engine(model_of(size).to(device), TrainSpec.model_validate(spec), world, device)


def step(engine: Engine, batch: LabelledGraph) -> None:
    """One optimizer step, that changes next to nothing: every step is the same work."""
    loss, _ = EnergyForce(EnergyForceConfig())(engine.forward, batch)
    engine.backward(loss)
    engine.step(1e-12)


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of this process on a processor."""
    wall, own = time.perf_counter(), time.process_time()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - own


class Kept:
    """Bytes that autograd keeps for the backward pass: the most at once, each piece of memory counted once.

    Parameters and what the caller holds anyway are not counted: `besides`.
    """

    def __init__(self, besides: list[Tensor]) -> None:
        self.peak, self._now = 0, 0
        self._uses: dict[int, int] = {}
        self._besides = {tensor.untyped_storage().data_ptr() for tensor in besides}

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is kept in this context."""
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Saved(self, tensor), lambda saved: saved.tensor):
            yield

    def add(self, key: int, size: int) -> bool:
        """One more that keeps this memory; whether it counts."""
        if key in self._besides or not size:
            return False
        self._uses[key] = self._uses.get(key, 0) + 1
        if self._uses[key] == 1:
            self._now += size
            self.peak = max(self.peak, self._now)
        return True

    def remove(self, key: int, size: int) -> None:
        """One less."""
        self._uses[key] -= 1
        if not self._uses[key]:
            del self._uses[key]
            self._now -= size


class _Saved:
    """A tensor that is kept; the memory counts until autograd lets go of this object."""

    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        self.tensor, self._kept = tensor, kept
        self._key, self._size = 0, 0
        if not tensor._is_zerotensor():  # which has no memory
            storage = tensor.untyped_storage()
            self._key, self._size = storage.data_ptr(), storage.nbytes()
        self._counts = kept.add(self._key, self._size)

    def __del__(self) -> None:
        if self._counts:
            self._kept.remove(self._key, self._size)


def kept(engine: Engine, batch: LabelledGraph) -> int:
    """The most bytes kept for gradients during a step."""
    graph = batch.graph
    besides = [*engine.module.parameters(), *engine.module.buffers(), graph.positions, graph.edges, graph.shifts]
    counter = Kept([tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in besides])
    with counter.counted():
        step(engine, batch)
    return counter.peak


def allocated(call: Callable[[], None]) -> float:
    """MiB that a call takes on a GPU beyond what lies there before it: the caching allocator's own count."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def plain_power(self: GauntPower, x: Tensor, weights: Tensor) -> Tensor:
    """`GauntPower.forward` in operations of torch alone."""
    grid = x @ self.to_grid
    total = weights[..., -1:]
    for k in reversed(range(self.order - 1)):
        total = torch.addcmul(weights[..., k : k + 1], total, grid)
    return (total * grid) @ self.from_grid


@contextlib.contextmanager
def torch_rules() -> Iterator[None]:
    """Dual numbers by torch's own rules, zeros and all."""
    with mock.patch.object(dual, "WithoutZeros", contextlib.nullcontext):
        yield


@contextlib.contextmanager
def nothing_fused() -> Iterator[None]:
    """Products in operations of torch alone, each keeping its factors."""
    edges = mock.patch.object(gaunt_convolution, "edge_product", edge_product_plain)
    with edges, mock.patch.object(GauntPower, "forward", plain_power):
        yield


def functorch(engine: Any, batch: LabelledGraph) -> None:
    """The second phase by `torch.func.jvp`; under `nothing_fused`, as it takes no autograd.Function of ours."""
    from dataclasses import replace

    model, graph = engine.module, batch.graph
    positions = graph.positions.detach().requires_grad_()
    energy = model(replace(graph, positions=positions), False).energy
    (gradient,) = torch.autograd.grad(energy.sum(), positions)
    found = EnergyForces(energy.detach().requires_grad_(), (-gradient).requires_grad_())
    loss, _ = EnergyForce(EnergyForceConfig())(lambda _: found, batch)
    by_energy, by_forces = torch.autograd.grad(loss, found)
    energy, rate = torch.func.jvp(
        lambda x: model(replace(graph, positions=x), False).energy, (graph.positions,), (-by_forces,)
    )
    engine.backward((by_energy * energy).sum() + rate.sum())
    engine.step(1e-12)
