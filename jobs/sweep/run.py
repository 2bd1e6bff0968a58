"""The sweep job: trials on Ray Tune, a table of them, and the winner as a training spec."""

import json
import math
import os
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from rich.table import Table

from cluster.context import RunContext
from cluster.errors import UserError
from cluster.metrics import Meter
from cluster.spec.writing import spec_text
from jobs.build import resolve
from jobs.spec.sweep import SweepSpec
from jobs.sweep.board import TrialBoard, TrialRow
from jobs.sweep.space import points, trial_spec, winner_spec
from jobs.sweep.trial import run_trial

# Tune's own frames and links; what there is to see is on the board.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# Tune would take Ctrl-C for itself, end the trials, and let us go on with half a sweep.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")


def run(spec: SweepSpec, context: RunContext) -> dict[str, Any]:
    """Run all trials. Returns the best point, its value, and where the winner's training spec is."""
    chosen = points(spec.space, spec.budget.trials, spec.seed)
    specs = [trial_spec(spec, point) for point in chosen]
    resolved = [resolve(one, context.store) for one in specs]
    steps = specs[0].schedule.steps
    shared = {
        "store": context.store.uri,
        "run_id": context.run_id,
        "metric": spec.metric,
        "resolved": [one.to_json() for one in resolved],
    }
    resources = {"cpu": specs[0].resources.cpus_per_worker, "gpu": specs[0].resources.gpus_per_worker}
    filesystem, base = context.store.arrow()
    with context.progress.task("sweep", total=spec.budget.trials, unit="trials") as bar:
        meter = Meter(run_id=context.run_id)
        board = TrialBoard(chosen, metric=spec.metric, mode=spec.mode, steps=steps, bar=bar, meter=meter)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, shared=shared), resources),
            param_space={"trial": tune.grid_search(list(range(len(chosen))))},
            tune_config=tune.TuneConfig(
                metric="objective",
                mode=spec.mode,
                scheduler=_scheduler(spec, steps),
                max_concurrent_trials=spec.budget.concurrent,
                time_budget_s=spec.budget.hours * 3600,
                reuse_actors=True,  # a fresh process would import torch again for every trial
            ),
            run_config=tune.RunConfig(
                name=context.run_id,
                storage_path=f"{base}/runs/{context.run_id}/ray",
                storage_filesystem=filesystem,
                verbose=0,
                callbacks=[board],
            ),
        )
        tuner.fit()
    rows = board.ranked()
    context.store.write(
        f"runs/{context.run_id}/trials.json", json.dumps([row.to_json() for row in rows], indent=1).encode()
    )
    context.progress.show(table(rows, spec))
    best = rows[0] if rows else None
    if best is None or not math.isfinite(best.value):
        raise UserError(
            f"none of the {spec.budget.trials} trials measured {spec.metric}",
            hint=f"the first error was: {next((row.error for row in rows if row.error), 'none reported')}",
        )
    pinned = winner_spec(spec, best.parameters).with_changes({"data.uri": f"datasets/{resolved[0].dataset}"})
    winner = pinned.model_dump(mode="json", by_alias=True)
    key = f"runs/{context.run_id}/winner.yaml"
    context.store.write(key, spec_text(winner).encode())
    failed = sum(row.status == "failed" for row in rows)
    return {
        "best": best.parameters,
        "metric": spec.metric,
        "value": best.value,
        "winner": key,
        "failed_trials": failed,
    }


def table(rows: list[TrialRow], spec: SweepSpec) -> Table:
    """The trials, best first."""
    view = Table(title=f"{len(rows)} trials by {spec.metric}", title_justify="left")
    view.add_column("trial", justify="right")
    for name in spec.space:
        view.add_column(name.rsplit(".", 1)[-1] if not name.endswith(".name") else name.split(".")[-2], justify="right")
    for title in ("steps", "seconds", spec.metric.rsplit("/", 1)[-1]):
        view.add_column(title, justify="right")
    view.add_column("ended")
    for place, row in enumerate(rows):
        values = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.parameters.values()]
        measured = [str(row.steps), f"{row.seconds:.1f}", f"{row.value:.4g}"]
        view.add_row(str(row.trial), *values, *measured, row.status, style="bold" if place == 0 else None)
    return view


def _scheduler(spec: SweepSpec, steps: int) -> TrialScheduler:
    if spec.scheduler.name == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="step",
        max_t=steps,
        grace_period=min(spec.scheduler.grace_steps, steps),
        reduction_factor=spec.scheduler.factor,
    )
