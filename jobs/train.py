"""The training job: resolve the spec, train, publish the best weights."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.code_version import code_version
from cluster.context import RunContext
from cluster.registry import move_alias, publish_model
from cluster.runs import load_run
from jobs.exporters.catalogue import require
from jobs.launch import launch
from jobs.spec.train import TrainSpec

if TYPE_CHECKING:
    from jobs.build import ResolvedTrain

TASKS = {"energy_force": "energy_forces", "flow_matching": "embed"}


def run(spec: TrainSpec, context: RunContext) -> dict[str, Any]:
    """Train and publish. Returns the outputs of the run: metrics, steps, dataset and, if published, the model."""
    require(spec.loggers)
    found: list[ResolvedTrain] = []

    def look_up() -> "ResolvedTrain":
        if not found:
            from jobs.build import resolve  # here, because torch takes seconds: the workers' processes start meanwhile

            found.append(resolve(spec, context.store))
            context.progress.say(
                f"training {spec.model.name} on {found[0].dataset}: {_workers(spec)}, {_strategy(spec)}"
            )
        return found[0]

    outcome = launch(spec, look_up, context, attempt=load_run(context.store, context.run_id).attempt)
    resolved = look_up()
    outputs: dict[str, Any] = {"dataset": resolved.dataset, **outcome}
    if spec.publish is None:
        return outputs
    from jobs.checkpoints.reading import open_checkpoint
    from jobs.state.export import write_model
    from jobs.state.piece import BEST

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="publish-", dir=context.workdir) as folder:
        # From the last checkpoint, which holds the best weights besides the last: no worker has them whole.
        write_model(open_checkpoint(context.store, context.run_id), BEST, resolved.description, Path(folder))
        reference = publish_model(
            context.store,
            spec.publish.as_,
            Path(folder),
            {
                "task": TASKS[spec.objective.name],
                "dataset": {"ref": resolved.dataset, "digest": resolved.dataset_digest},
                "spec": resolved.spec.model_dump(mode="json", by_alias=True),
                "code_version": code_version(),
                "metrics": outcome["metrics"],
                "run": context.run_id,
            },
        )
    if spec.publish.alias:
        why = f"published by run {context.run_id}"
        move_alias(context.store, reference.name, spec.publish.alias, reference.version, who=context.run_id, why=why)
    context.progress.say(f"published {reference}" + (f", alias {spec.publish.alias}" if spec.publish.alias else ""))
    return {**outputs, "model": str(reference), "publish_seconds": time.monotonic() - started}


def _workers(spec: TrainSpec) -> str:
    least, most = spec.resources.least, spec.resources.most
    return f"{most} worker{'s' * (most > 1)}" if least == most else f"{least} to {most} workers"


def _strategy(spec: TrainSpec) -> str:
    return spec.strategy.kind if spec.strategy.stage is None else f"ZeRO-{spec.strategy.stage}"
