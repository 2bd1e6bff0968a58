"""Training on Ray Train: the workers, their restarts, and what a person sees meanwhile."""

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.config import LoggingConfig
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from cluster.context import RunContext
from cluster.errors import NotFoundError
from cluster.metrics import Meter
from cluster.store import open_store
from equimodels.assemble import assemble
from equimodels.checkpoint import save_model
from jobs.build import ResolvedTrain
from jobs.metering import training_meter
from jobs.worker import Assignment, work
from jobs.world import World

POLL_S = 0.5


class WorkersFailedError(RuntimeError):
    """Training ended in an error on a worker, and the restarts are spent."""

    def __init__(self, message: str, rank: int | None) -> None:
        super().__init__(message)
        self.rank = rank

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkersFailedError, (self.args[0], self.rank)


def launch(resolved: ResolvedTrain, context: RunContext, *, attempt: int) -> dict[str, Any]:
    """Train `resolved` on the session's cluster; the best weights end up in `runs/<id>/model/` on the store.

    Returns what the leading worker knows at the end: steps, best step and value, metrics.
    Raises WorkersFailedError with the rank and its message when the workers cannot go on.
    """
    spec = resolved.spec
    task = Assignment(context.store.uri, context.run_id, attempt, resolved.to_json())
    resources = {"CPU": spec.resources.cpus_per_worker, "GPU": spec.resources.gpus_per_worker}
    filesystem, base = context.store.arrow()
    trainer = TorchTrainer(
        _worker,
        train_loop_config=asdict(task),
        scaling_config=ScalingConfig(
            num_workers=spec.resources.workers,
            use_gpu=spec.resources.gpus_per_worker > 0,
            resources_per_worker={name: number for name, number in resources.items() if number},
        ),
        torch_config=TorchConfig(backend="nccl" if spec.resources.gpus_per_worker else "gloo"),
        run_config=RunConfig(
            name=context.run_id,
            storage_path=f"{base}/runs/{context.run_id}/ray",
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=spec.failure.max_restarts),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    # Ray Train's own handler of Ctrl-C stays in place when training is over, and swallows it from then on.
    trainer._register_sigint_handler = lambda controller: None
    with _shown(context, spec.schedule.steps):
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            raise _explained(error) from error
    if result.error is not None:
        raise _explained(result.error) from result.error
    outcome: dict[str, Any] = result.return_value
    return outcome


def _worker(task: dict[str, Any]) -> dict[str, Any] | None:
    """The function that every Ray Train worker runs."""
    import ray.train

    ray_context = ray.train.get_context()
    world = World(ray_context.get_world_rank(), ray_context.get_world_size())
    assignment = Assignment(**task)
    resolved, store = ResolvedTrain.from_json(assignment.resolved), open_store(assignment.store)
    emit = training_meter(assignment.run_id)
    if world.leads and store.exists(f"runs/{assignment.run_id}/live.json"):
        Meter(run_id=assignment.run_id).add("equi_restarts")  # workers of this run have been at work before
    outcome = work(assignment, world, emit=emit, rank_on_node=ray_context.get_local_rank())
    if not world.leads:
        return None
    model = assemble(resolved.description)
    model.load_state_dict(outcome.best_weights)
    with tempfile.TemporaryDirectory(prefix="equi-model-") as folder:
        save_model(Path(folder), model, resolved.description)
        store.upload(Path(folder), f"runs/{assignment.run_id}/model")
    return {
        "steps": outcome.step,
        "best_step": outcome.best_step,
        "best_value": outcome.best_value,
        "metrics": outcome.metrics,
        "data_wait": outcome.data_wait,
    }


def _explained(error: TrainingFailedError) -> WorkersFailedError:
    """The first cause, in the worker's own words: another rank often only says that its peer has gone."""
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        causes = {rank: _root(cause) for rank, cause in error.worker_failures.items()}
        rank = min(causes, key=lambda r: (_is_echo(causes[r]), r))
        return WorkersFailedError(f"rank {rank}: {_words(causes[rank])}", rank)
    return WorkersFailedError(str(error).strip().splitlines()[-1], None)


def _root(error: BaseException) -> BaseException:
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def _words(error: BaseException) -> str:
    """One line. Of a death that Ray only noticed it tells twenty, with what may have been the cause."""
    if isinstance(error, WorkerHealthCheckFailedError):
        return "its process died: killed, out of memory, or crashed in native code"
    return f"{type(error).__name__}: {error}"


def _is_echo(error: BaseException) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset", "gloo", "nccl"))


@contextmanager
def _shown(context: RunContext, steps: int) -> Iterator[None]:
    """Show the leading worker's progress, which it writes to the store, while the block waits for the end."""
    finished = threading.Event()
    with context.progress.task("train", total=steps, unit="steps") as bar:

        def follow() -> None:
            told: dict[str, Any] = {}
            while not finished.wait(POLL_S):
                try:
                    news = json.loads(context.store.read(f"runs/{context.run_id}/live.json"))
                except (NotFoundError, ValueError):
                    continue
                if news.get("stage") == "train" and news != told:  # nothing new while workers start again
                    told = news
                    bar.update(completed=news["completed"], **described(news))

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
            bar.update(completed=steps)
        finally:
            finished.set()
            watcher.join(timeout=5)


def described(news: dict[str, Any]) -> dict[str, str]:
    """The few numbers of a progress report that fit on a line."""
    now, measured = news.get("now", {}), news.get("measured", {})
    shown = {}
    if "epoch" in now:
        shown["epoch"] = f"{now['epoch']:.1f}"
    if "loss" in now:
        shown["loss"] = f"{now['loss']:.4g}"
    if "valid/force_mae" in measured:
        shown["force MAE"] = f"{1000 * measured['valid/force_mae']:.1f} meV/Å"
    elif "force_mae" in now:
        shown["force MAE"] = f"{1000 * now['force_mae']:.1f} meV/Å"
    if "data_wait" in now:
        shown["data wait"] = f"{100 * now['data_wait']:.1f} %"
    if "samples_per_second" in now:
        shown["rate"] = f"{now['samples_per_second']:.0f}/s"
    return shown
