"""DeepSpeed on two ranks against plain torch in one process, with forces from a second backward pass."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from jobs.spec.train import Optimizer, Strategy
from jobs.strategy.single import SingleEngine
from jobs.strategy.zero import ZeroEngine, deepspeed_config, quiet_environment
from jobs.world import World

pytestmark = pytest.mark.integration
STEPS, BATCH, STAGES = 5, 8, (0, 1, 2)


class Springs(nn.Module):
    """An energy that is a network of pair distances, and its exact forces."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            distance = (x[:, :, None] - x[:, None, :]).square().sum(-1, keepdim=True)
            energy = self.net(distance).sum((1, 2, 3))
            (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=self.training)
        return energy, -gradient


def steps(engine: Any, rank: int, size: int) -> None:
    share = BATCH // size
    for step in range(STEPS):
        x = torch.randn(BATCH, 4, 3, generator=torch.Generator().manual_seed(step))[rank * share : (rank + 1) * share]
        energy, forces = engine.forward(x)
        loss = (energy - x.square().sum((1, 2))).square().mean() + 10 * (forces + 2 * x).square().mean()
        engine.backward(loss)
        engine.step(1e-3)


def rank_main(rank: int, port: int, folder: Path) -> None:
    """All stages in one pair of processes: importing DeepSpeed costs more than the steps."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0")
    quiet_environment(folder, gpu=False)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for stage in STAGES:
        world, strategy = World(rank, 2), Strategy(zero_stage=stage, gradient_clipping=1e9)  # type: ignore[arg-type]
        torch.manual_seed(0)
        engine = ZeroEngine(Springs(), Optimizer(), strategy, world, batch=BATCH)
        steps(engine, rank, 2)
        saved = folder / f"saved-{stage}"
        saved.mkdir(exist_ok=True)
        engine.save(saved)
        dist.barrier()
        torch.manual_seed(1)
        fresh = ZeroEngine(Springs(), Optimizer(), strategy, world, batch=BATCH)
        fresh.load(saved)
        steps(engine, rank, 2)
        steps(fresh, rank, 2)
        if rank == 0:
            found = {name: weights(one) for name, one in (("unbroken", engine), ("loaded", fresh))}
            torch.save(found, folder / f"stage-{stage}.pt")
    dist.destroy_process_group()


def weights(engine: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in engine.module.named_parameters()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Processes of their own: pytest's import mode has no module name that a spawned one could import.
    ranks = [subprocess.Popen([sys.executable, __file__, str(port), str(folder), str(rank)]) for rank in range(2)]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_take_the_steps_of_one_process(stage: int, results: Path) -> None:
    torch.manual_seed(0)
    single = SingleEngine(Springs(), Optimizer(), Strategy(kind="single", gradient_clipping=1e9))
    for _ in range(2):
        steps(single, 0, 1)
    found = torch.load(results / f"stage-{stage}.pt", weights_only=True)["unbroken"]
    for name, expected in weights(single).items():
        torch.testing.assert_close(found[name], expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_loaded_engine_goes_on_exactly(stage: int, results: Path) -> None:
    found = torch.load(results / f"stage-{stage}.pt", weights_only=True)
    for name, expected in found["unbroken"].items():
        assert torch.equal(found["loaded"][name], expected)


def test_clipping_is_never_left_to_the_default_of_deepspeed() -> None:
    for stage in (0, 1, 2):
        config = deepspeed_config(Strategy(zero_stage=stage, gradient_clipping=7.0), micro_batch=4)  # type: ignore[arg-type]
        assert config["gradient_clipping"] == 7.0


if __name__ == "__main__":
    rank_main(int(sys.argv[3]), int(sys.argv[1]), Path(sys.argv[2]))
