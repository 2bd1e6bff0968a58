"""The training loop with a model small enough to check by hand: resuming, selecting, diverging."""

import json
import math
from collections.abc import Generator, Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jobs.errors import TrainingDivergedError
from jobs.loop import Outcome, train
from jobs.ports import Ports
from jobs.spec.train import TrainSpec
from jobs.strategy.single import SingleEngine
from jobs.world import World


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Pairs(tuple[Tensor, Tensor]):
    def to(self, device: torch.device) -> "Pairs":
        return self


class Points:
    """y = x . (2, -1), 40 points, 8 a batch in the order of another permutation each epoch."""

    samples = 40

    def __init__(self, poison: int | None = None, *, epochs: int | None = None) -> None:
        self.x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        self.y = self.x @ torch.tensor([2.0, -1.0])
        if poison is not None:
            self.y[poison] = math.nan
        self.consumed, self.epochs, self.last = 0, epochs, torch.arange(0)

    def __iter__(self) -> Generator[Pairs, None, None]:
        end = None if self.epochs is None else self.consumed + self.epochs * 40
        while end is None or self.consumed < end:
            epoch, place = divmod(self.consumed, 40)
            order = torch.randperm(40, generator=torch.Generator().manual_seed(epoch))
            self.last = order[place : place + 8]
            self.consumed += 8
            yield Pairs((self.x[self.last], self.y[self.last]))

    def identifiers(self) -> list[str]:
        return [f"point-{i}" for i in self.last]

    def state(self) -> dict[str, Any]:
        return {"consumed": self.consumed}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.consumed = state["consumed"]


class SquaredError:
    """Mean squared error with noise from the loop's generator, so that the test sees the generator being reused."""

    def __call__(self, forward: Any, batch: Pairs, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        noise = 0.1 * torch.randn(len(batch[1]), generator=generator)
        loss = (forward(batch[0]) - batch[1] - noise).square().mean()
        return loss, {"loss": torch.stack([loss.detach().double(), torch.tensor(1.0).double()])}

    def evaluate(self, forward: Any, batch: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        errors = (forward(batch[0]) - batch[1]).square().double()
        return {"loss": torch.stack([errors.sum(), torch.tensor(float(len(errors))).double()])}


class Memory:
    """Checkpoints in a folder and records in lists; `dies_at` ends the run right after that step's commit."""

    def __init__(self, home: Path, dies_at: int | None = None) -> None:
        self.home, self.dies_at = home, dies_at
        self.records: list[tuple[int, dict[str, float]]] = []

    def newest(self, folder: Path) -> Mapping[str, Any] | None:
        found = sorted(self.home.glob("*/notes.json"))
        if not found:
            return None
        copytree(found[-1].parent, folder, dirs_exist_ok=True)
        notes: Mapping[str, Any] = json.loads(found[-1].read_text())
        return notes

    def commit(self, step: int, folder: Path, notes: Mapping[str, Any]) -> None:
        copytree(folder, self.home / f"{step:04d}")
        (self.home / f"{step:04d}" / "notes.json").write_text(json.dumps(notes))
        if step == self.dies_at:
            raise KeyboardInterrupt

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        assert "valid/loss" in values
        assert 0 <= values["train/data_wait"] < 1  # a time: never the same twice
        self.records.append((step, {name: value for name, value in values.items() if name != "train/data_wait"}))

    def progressed(self, step: int, values: Mapping[str, float]) -> None:
        assert values["step"] == step


def spec(**changes: Any) -> TrainSpec:
    base = {
        "spec_version": 1,
        "kind": "train",
        "name": "line",
        "data": {"uri": "datasets/line@1", "batch": {"structures": 8}},
        "model": {"name": "line"},
        "objective": {"name": "squared_error"},
        "schedule": {"steps": 30, "warmup": 3, "eval_every": 10, "ema": 0.9},
        "optimizer": {"params": {"lr": 0.1}},
        "strategy": {"kind": "single"},
        "resources": {"workers": 1},
        "checkpoint": {"every_steps": 10},
    }
    return TrainSpec.model_validate(base).with_changes(changes)


def run(memory: Memory, scratch: Path, wanted: TrainSpec, points: Points | None = None) -> tuple[Outcome, Line]:
    model = Line()
    engine = SingleEngine(model, wanted.optimizer, wanted.strategy)
    ports = Ports(memory, memory, scratch)
    points = points or Points()
    device = torch.device("cpu")
    return train(wanted, engine, SquaredError(), points, Points(epochs=1), ports, World(), device), model


def test_training_finds_the_line(tmp_path: Path) -> None:
    outcome, model = run(Memory(tmp_path / "c"), tmp_path, spec(**{"schedule.steps": 300}))
    torch.testing.assert_close(model.weight.detach(), torch.tensor([2.0, -1.0]), atol=0.05, rtol=0)
    assert outcome.step == 300
    assert outcome.best_value < 0.01


@pytest.mark.parametrize("dies_at", [10, 20])
def test_an_interrupted_run_ends_with_exactly_the_numbers_of_an_unbroken_one(tmp_path: Path, dies_at: int) -> None:
    unbroken = Memory(tmp_path / "unbroken")
    whole, expected = run(unbroken, tmp_path, spec())
    broken = Memory(tmp_path / "broken", dies_at=dies_at)
    with pytest.raises(KeyboardInterrupt):
        run(broken, tmp_path, spec())
    broken.dies_at = None
    resumed, found = run(broken, tmp_path, spec())
    assert torch.equal(found.weight, expected.weight)
    assert resumed.best_value == whole.best_value
    assert torch.equal(resumed.best_weights["weight"], whole.best_weights["weight"])
    assert broken.records == unbroken.records


def test_another_seed_gives_other_numbers(tmp_path: Path) -> None:
    """The negative control of the test above: equality there is not an accident of the problem."""
    _, first = run(Memory(tmp_path / "a"), tmp_path, spec())
    _, second = run(Memory(tmp_path / "b"), tmp_path, spec(seed=1))
    assert not torch.equal(first.weight, second.weight)


def test_the_best_weights_are_those_of_the_best_evaluation(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "c")
    outcome, _ = run(memory, tmp_path, spec(**{"optimizer.params.lr": 1.5, "schedule.decay": "constant"}))
    losses = {step: values["valid/loss"] for step, values in memory.records}
    assert outcome.best_value == min(losses.values())
    assert losses[outcome.best_step] == outcome.best_value


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_samples(tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match=r"not finite at step \d+ on rank 0") as caught:
        run(Memory(tmp_path / "c"), tmp_path, spec(), Points(poison=7))
    assert "point-7" in caught.value.samples
    assert len(caught.value.samples) == 8


def test_nothing_of_a_run_stays_in_the_scratch_folder(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run(Memory(tmp_path / "c"), scratch, spec())
    assert list(scratch.iterdir()) == []
