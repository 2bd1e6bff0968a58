"""One training process, as a worker of a run or inside a trial: the same set-up and the same loop."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cluster.store import open_store
from equimodels.assemble import assemble, settings
from equimodels.components import objectives
from jobs.build import ResolvedTrain, dataset_of, training_batches, validation_batches
from jobs.checkpoints import RunCheckpoints
from jobs.loop import Outcome, train
from jobs.ports import Checkpoints, Ports, Recorder, never
from jobs.recorder import Plan, StoreRecorder
from jobs.spec.train import TrainSpec
from jobs.strategy.build import device_of, make_engine, quiet_environment
from jobs.training.flops import peak_of
from jobs.training.seeding import deterministic, seed_all
from jobs.world import World


@dataclass(frozen=True)
class Assignment:
    """What a worker is told. Plain data: it travels to another process."""

    store: str
    run_id: str
    attempt: int
    resolved: dict[str, Any]


def work(
    task: Assignment,
    world: World,
    *,
    recorder: Recorder | None = None,
    checkpoints: Checkpoints | None = None,
    emit: Callable[[Mapping[str, float]], None] = lambda values: None,
    stop: Callable[[], bool] = never,
    rank_on_node: int = 0,
) -> Outcome:
    """Train as one of `world`. Recorder and checkpoints are on the store unless given."""
    resolved = ResolvedTrain.from_json(task.resolved)
    spec = resolved.spec
    gpu = spec.resources.gpus_per_worker > 0
    torch.set_num_threads(spec.resources.cpus_per_worker)
    device = device_of(rank_on_node, gpu=gpu)
    if gpu:
        torch.cuda.set_device(device)  # what names no device must not land on that of another worker
    with ExitStack() as open_:
        scratch = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="equi-worker-")))
        open_.enter_context(deterministic(spec.deterministic))
        quiet_environment(scratch, gpu=gpu)
        store = open_store(task.store)
        dataset = dataset_of(store, resolved)
        training = training_batches(dataset, spec, world)
        validation = validation_batches(dataset, spec, world)
        world.pulse.passed("dataset")
        seed_all(spec.seed)  # the same weights on every rank, whatever ran in this process before
        model = assemble(resolved.description).to(device)
        config = settings(objectives, spec.objective.name, spec.objective.params)
        objective: Any = objectives.find(spec.objective.name).target(config, resolved.description.facts)
        world.pulse.passed("model")
        engine = make_engine(model, spec, world, device)
        world.pulse.passed("engine")
        if recorder is None:
            plan = recording_plan(spec, objective, world, device)
            recorder = open_.enter_context(
                closing(StoreRecorder(store, task.run_id, task.attempt, spec.schedule.steps, emit, plan))
            )
        if checkpoints is None:
            description = resolved.description.to_json()
            checkpoints = RunCheckpoints(store, task.run_id, world, spec.checkpoint, scratch, model=description)
        ports = Ports(recorder, checkpoints, stop)
        return train(spec, engine, objective, training, validation, ports, world, device)


def recording_plan(spec: TrainSpec, objective: Any, world: World, device: torch.device) -> Plan:
    """What the recorder is told of the run before it begins."""
    ranks = range(world.size)
    strategy, peak = spec.strategy, None
    if not strategy.recompute:  # what is computed again is counted again, and would pass for use of the peak
        peak = peak_of(device, bf16=strategy.precision == "bf16", tf32=strategy.tf32)
    return Plan(
        metric=spec.selected_by[0],
        measured=(*(f"valid/{name}" for name in objective.metrics), *(f"memory/rank{rank}" for rank in ranks)),
        evaluate_every=spec.schedule.eval_every,
        save_every=spec.checkpoint.every_steps,
        peak=None if peak is None else peak * world.size,
        loggers=spec.loggers,
        name=spec.name,
        settings=spec.model_dump(mode="json", by_alias=True),
    )
