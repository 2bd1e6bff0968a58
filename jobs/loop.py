"""The training loop, from the first step to the last. No Ray, no store: those are behind the ports.

Everything random is a function of (seed, step), so a run that was interrupted and resumed at a committed step gives
the same numbers as one that was not.
"""

import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.data.batches import Batches
from jobs.data.watch import DataWatch
from jobs.ema import AveragedModel
from jobs.errors import TrainingDivergedError
from jobs.ports import Ports
from jobs.schedule import learning_rate
from jobs.spec.train import TrainSpec
from jobs.strategy.engine import Engine
from jobs.world import World

AVERAGE, BEST = "average.safetensors", "best.safetensors"


@dataclass
class Outcome:
    """Where a run stands: the best weights so far and how good they are."""

    step: int = 0
    best_step: int = 0
    best_value: float = math.nan
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    data_wait: float = 0.0  # share of the time of this attempt's steps that was spent waiting for data


def train(
    spec: TrainSpec,
    engine: Engine,
    objective: Any,
    training: Batches,
    validation: Batches,
    ports: Ports,
    world: World,
    device: torch.device,
) -> Outcome:
    """Train until `spec.schedule.steps`, from the newest committed checkpoint. Called on every rank with the same spec.

    training: batches without end. validation: batches of one epoch. Raises TrainingDivergedError when the loss is not
    finite, naming the samples of the batch.
    """
    average = AveragedModel(engine.module, spec.schedule.ema)
    outcome = _resume(engine, average, training, ports)
    metric, mode = _selection(spec)
    sign = 1.0 if mode == "min" else -1.0
    started, first, read_before = time.monotonic(), outcome.step, training.consumed
    watch, batches = DataWatch(), iter(training)
    for step in range(outcome.step, spec.schedule.steps):
        with watch.waiting():
            batch = next(batches)
        engine.module.train()
        loss, values = objective(engine.forward, batch.to(device), _noise(spec, step, world))
        if not math.isfinite(loss.item()):
            raise TrainingDivergedError(step, world.rank, training.identifiers())
        engine.backward(loss)
        lr = learning_rate(step, spec.schedule, peak=spec.optimizer.params.lr)
        engine.step(lr)
        done = outcome.step = step + 1
        average.update(engine.module, done)

        watch.step_done()

        seconds = time.monotonic() - started
        now = {name: float(value[0] / value[1]) for name, value in values.items()} | {"data_wait": watch.share}
        if world.leads:
            position = {
                "step": done,
                "epoch": training.consumed / training.samples,
                "samples": training.consumed,
                "samples_per_second": (training.consumed - read_before) / seconds,
                "seconds_per_step": seconds / (done - first),
                "seconds_left": (spec.schedule.steps - done) * seconds / (done - first),
            }
            ports.recorder.progressed(done, {**now, **position})
        if done % spec.schedule.eval_every == 0 or done == spec.schedule.steps:
            found = evaluate(average.module, objective, validation, spec, world, device)
            outcome.metrics = {f"valid/{name}": value for name, value in found.items()}
            if metric not in outcome.metrics:
                raise KeyError(f"{metric} is not measured; measured: {', '.join(sorted(outcome.metrics))}")
            if not outcome.best_weights or sign * outcome.metrics[metric] < sign * outcome.best_value:
                outcome.best_step, outcome.best_value = done, outcome.metrics[metric]
                outcome.best_weights = _weights(average)
            record = {f"train/{name}": value for name, value in now.items()} | {"train/lr": lr} | outcome.metrics
            if world.leads:
                ports.recorder.measured(done, record)
            watch.begin()
        if done % spec.checkpoint.every_steps == 0 or done == spec.schedule.steps:
            _commit(engine, average, outcome, training, ports, world)
    batches.close()
    outcome.data_wait = watch.share_of_all
    return outcome


@torch.no_grad()
def evaluate(
    model: torch.nn.Module,
    objective: Any,
    batches: Batches,
    spec: TrainSpec,
    world: World,
    device: torch.device,
) -> dict[str, float]:
    """Metrics of `model` over one epoch of `batches`, shared by the ranks; the same on every rank."""
    totals: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        generator = torch.Generator().manual_seed((spec.seed * 1_000_003 + number) * 4_099 + world.rank)
        for name, value in objective.evaluate(model, batch.to(device), generator).items():
            totals[name] = totals.get(name, torch.zeros(2, dtype=torch.float64)) + value.double().cpu()
    # A rank without a batch has no names yet: all must reduce the same ones.
    names = sorted(set().union(*world.gather(sorted(totals))))
    summed = world.sum({name: totals.get(name, torch.zeros(2, dtype=torch.float64)) for name in names})
    return {name: float(value[0] / value[1]) for name, value in summed.items()}


def _selection(spec: TrainSpec) -> tuple[str, str]:
    return (spec.publish.metric, spec.publish.mode) if spec.publish else ("valid/loss", "min")


def _noise(spec: TrainSpec, step: int, world: World) -> torch.Generator:
    """A generator that depends on the step and the rank only, so that resuming needs no generator state."""
    return torch.Generator().manual_seed((spec.seed * 1_000_003 + step) * 4_099 + world.rank)


def _weights(average: AveragedModel) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in average.module.state_dict().items()}


def _commit(
    engine: Engine, average: AveragedModel, outcome: Outcome, training: Batches, ports: Ports, world: World
) -> None:
    folder = Path(tempfile.mkdtemp(dir=ports.scratch, prefix="checkpoint-"))
    try:
        engine.save(folder)
        if world.leads:
            save_file(_weights(average), folder / AVERAGE)
            if outcome.best_weights:
                save_file(outcome.best_weights, folder / BEST)
        # NaN is no JSON: before the first evaluation there is no best value.
        best = None if math.isnan(outcome.best_value) else outcome.best_value
        notes = {
            "step": outcome.step,
            "best_step": outcome.best_step,
            "best_value": best,
            "metrics": outcome.metrics,
            "reader": training.state(),
        }
        ports.checkpoints.commit(outcome.step, folder, notes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _resume(engine: Engine, average: AveragedModel, training: Batches, ports: Ports) -> Outcome:
    folder = Path(tempfile.mkdtemp(dir=ports.scratch, prefix="resume-"))
    try:
        notes: Mapping[str, Any] | None = ports.checkpoints.newest(folder)
        if notes is None:
            return Outcome()
        engine.load(folder)
        training.load_state(notes["reader"])
        average.module.load_state_dict(load_file(folder / AVERAGE))
        best = load_file(folder / BEST) if (folder / BEST).exists() else {}
        value = math.nan if notes["best_value"] is None else float(notes["best_value"])
        return Outcome(int(notes["step"]), int(notes["best_step"]), value, best, dict(notes["metrics"]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
