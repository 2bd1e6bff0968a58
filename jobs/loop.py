"""The training loop, from the first step to the last. No Ray, no store: those are behind the ports.

Everything random is a function of (seed, step, micro-batch), and everything that is remembered is in the checkpoints:
a run that is interrupted and resumed gives the same numbers as one that is not, on any number of workers up to
rounding.
"""

import math
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch

from cluster.errors import UserError
from jobs.data.batches import Batches
from jobs.data.watch import DataWatch
from jobs.errors import PreemptedError, TrainingDivergedError
from jobs.ports import Ports
from jobs.spec.train import TrainSpec
from jobs.strategy.engine import Engine
from jobs.training.evaluation import evaluate
from jobs.training.flops import FlopCount
from jobs.training.pace import Pace, memory_used
from jobs.training.pieces import copied
from jobs.training.schedule import learning_rate
from jobs.training.seeding import LAYERS, draws, reseed, seed_of
from jobs.training.state import TrainingState
from jobs.training.sums import StepSums, described
from jobs.world import World

STOP = "stop?"  # travels with the sums of a step: asking takes no collective of its own


@dataclass
class Outcome:
    """How a run ended. Its weights, with the best ones in the slot `best`, are in its last checkpoint."""

    step: int = 0
    best_step: int = 0
    best_value: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)
    skipped: int = 0  # steps that the guard left out
    stopped_early: bool = False
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

    training: micro-batches without end, `spec.accumulation(world.size)` a step. validation: batches of one epoch.
    Raises TrainingDivergedError where more steps had to be left out than the guard's budget, naming the samples with
    the largest loss; and PreemptedError, once everything is saved, where any rank was asked to stop.
    """
    run = _Run(spec, engine, objective, training, validation, ports, world, device)
    run.resume()
    state, total, parts = run.state, spec.schedule.steps, spec.accumulation(world.size)
    pace, watch, flops = Pace(state.step, total, training), DataWatch(), FlopCount(on=not spec.strategy.compile)
    engine.module.train()
    with closing(iter(training)) as batches:
        while state.step < total and not state.ended:
            step, sums = state.step, StepSums()
            world.at(step)
            with flops.counting():
                for part in range(parts):
                    with watch.waiting():
                        batch = next(batches)
                    place = part * world.size + world.rank
                    generator = draws(spec.seed, step, place)
                    reseed(seed_of(spec.seed, step, place, LAYERS), device)
                    loss, metrics = objective(engine.forward, batch.to(device), generator)
                    engine.backward(loss, last=part == parts - 1)
                    sums.add(loss, metrics, batch, training.rows)
            sums.contains({"flops": flops.of(sums.size)})
            lr, limit = learning_rate(step, spec.schedule, peak=spec.optimizer.params.lr), state.guard.limit
            norm = engine.step(lr, limit=limit)
            done = state.step = step + 1
            if state.guard.took(norm):
                state.averages.update(engine.values())
            else:
                run.left_out(norm, limit, sums)

            asked = torch.tensor(float(ports.stop()), dtype=torch.float64)
            summed = world.sum({**sums.tensors(), STOP: asked})
            stopping = bool(summed.pop(STOP) > 0) and done < total
            seconds = watch.step_done()
            now = described(summed, seconds) | {"grad_norm": norm, "lr": lr, "skipped": float(state.guard.skipped)}
            state.latest = {name: value for name, value in now.items() if math.isfinite(value)}  # JSON has no NaN
            if world.leads:
                timing = {"data_wait": watch.share, "step_seconds": seconds, **pace.position(done)}
                ports.recorder.progressed(done, state.latest | timing)
            # One who is asked to stop has no time to evaluate: `resume` makes up for it.
            if run.owes_an_evaluation and not stopping:
                run.evaluate(data_wait=watch.share)
                watch.begin()
            if stopping or state.ended or done % spec.checkpoint.every_steps == 0 or done == total:
                run.save()
            if stopping:
                run.tell("preempted", {})
                ports.checkpoints.finish()
                raise PreemptedError(done)
    ports.checkpoints.finish()
    best = state.selection
    skipped, wait = state.guard.skipped, watch.share_of_all
    return Outcome(state.step, best.step, best.value, state.metrics, skipped, state.ended, wait)


class _Run:
    """What happens between steps, now and then."""

    def __init__(
        self,
        spec: TrainSpec,
        engine: Engine,
        objective: Any,
        training: Batches,
        validation: Batches,
        ports: Ports,
        world: World,
        device: torch.device,
    ) -> None:
        self._spec, self._engine, self._objective, self._device = spec, engine, objective, device
        self._training, self._validation, self._ports, self._world = training, validation, ports, world
        self.state = TrainingState(spec, engine)
        self._best_saved = 0  # the step of the best weights that are in a checkpoint

    @property
    def owes_an_evaluation(self) -> bool:
        """Whether the step that was the last one should be followed by an evaluation and is not yet."""
        step, schedule = self.state.step, self._spec.schedule
        due = step > 0 and (step % schedule.eval_every == 0 or step == schedule.steps)
        return due and self.state.evaluated < step

    def resume(self) -> None:
        """Go on from the newest committed checkpoint, if there is one."""
        saved = self._ports.checkpoints.newest()
        if saved is None:
            return
        self.state.restore(saved, self._engine, self._training)
        self._best_saved = self.state.selection.step
        self.tell("resumed", {"workers": self._world.size})
        if self.owes_an_evaluation:
            self.evaluate()
            if self.state.ended:  # no step follows that would save what the evaluation found
                self.save()

    def left_out(self, norm: float, limit: float, sums: StepSums) -> None:
        """Tell which step the guard left out and whose loss was the largest; end the run if the budget is spent.

        Gradients are known as a sum over all batches only, so it is the loss that points at samples.
        """
        loss, rows = sums.largest()
        try:
            samples = self._training.identifiers(rows)
        except UserError:  # the store is down; numbers are better than another error
            samples = [f"row {row}" for row in rows.tolist()]
        offers = self._world.gather((loss, samples))
        rank = max(range(len(offers)), key=lambda place: offers[place][0])
        loss, samples = offers[rank]
        told = {"norm": norm, "limit": limit, "loss": loss}
        numbers = {name: value if math.isfinite(value) else None for name, value in told.items()}
        self.tell("skipped", {**numbers, "rank": rank, "samples": samples})
        if self.state.guard.spent:
            self._ports.checkpoints.finish()
            raise TrainingDivergedError(self.state.step, rank, samples, norm=norm, skipped=self.state.guard.skipped)

    def evaluate(self, **timing: float) -> None:
        """Measure the averaged weights, and keep them if they are the best so far."""
        engine, state, world = self._engine, self.state, self._world
        chosen = state.averages.chosen
        held = copied(engine.values()) if chosen is not None else {}
        if chosen is not None:
            engine.install(chosen)
        found = evaluate(engine, self._objective, self._validation, self._spec, world, self._device)
        if chosen is not None:
            engine.install(held)
        engine.module.train()
        state.metrics, state.evaluated = {f"valid/{name}": value for name, value in found.items()}, state.step
        if state.selection.judge(state.step, state.metrics):
            state.keep_best(engine)
            self.tell("best", {state.selection.metric: state.selection.value})
        state.ended = state.selection.hopeless
        memory = {
            f"memory/rank{rank}": float(used) for rank, used in enumerate(world.gather(memory_used(self._device)))
        }
        if world.leads:
            lately = {f"train/{name}": value for name, value in {**state.latest, **timing}.items()}
            self._ports.recorder.measured(state.step, lately | state.metrics | memory)

    def save(self) -> None:
        """Hand this rank's part of the state to the checkpoints, which write it behind the training."""
        state, engine = self.state, self._engine
        news = state.selection.step > self._best_saved
        self._best_saved = state.selection.step
        notes = state.notes(engine, self._training)
        self._ports.checkpoints.save(state.step, state.slots(engine), engine.shapes(), notes, best=news)

    def tell(self, what: str, details: dict[str, Any]) -> None:
        """One event for the people who watch."""
        if self._world.leads:
            self._ports.recorder.happened(self.state.step, what, details)
