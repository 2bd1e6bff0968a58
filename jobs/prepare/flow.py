"""Row groups through Ray Data: their numbers flow, the rows stay in the workers and on the store.

Rows are read by `Dataset.read_group` in the worker, so that checksums and retries are the dataset's own, and staged by
it, so that what is finished survives.

Ray Data is slower to begin than plain Ray tasks: 20,000 structures with neighbour lists on 2 CPUs took 8.5 s in a new
session, 7.0 s of them until the first row group, against 5.8 s and 4.5 s; then 12,000 rows/s against 15,000
(benchmarks/prepare_ray_data.py, others used the machine as well). It is used for what a large preparation needs: pools
of actors that keep their models, a bounded number of row groups under way, workers that are replaced.
"""

import json
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from cluster.errors import UserError
from jobs.prepare.group import Done, Preparation, Work
from jobs.spec.prepare import PrepareWorkers

_SCHEMA = pa.schema([*((name, pa.int64()) for name in ("number", "rows", "dropped")), ("error", pa.string())])
_BLOCKS = 4096  # at most; each is an object of its own that the driver puts into the object store


class Worker:
    """A process that keeps its models from one row group to the next.

    Errors go back as rows: raised here, Ray Data would log its own traces around them and hide what they say.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._preparation: Preparation | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._prepared(number) for number in batch["number"].to_pylist()], _SCHEMA)

    def _prepared(self, number: int) -> dict[str, Any]:
        try:
            self._preparation = self._preparation or Preparation(self._work)
            return asdict(self._preparation.prepare(number))
        except UserError as error:
            said = {"message": error.message, "allowed": error.allowed, "hint": error.hint}
        except Exception:
            said = {"trace": traceback.format_exc()}
        return {"number": number, "rows": 0, "dropped": 0, "error": json.dumps(said)}


_kept: dict[tuple[str, ...], Worker] = {}  # by run and digest of the work; one, of the run that came last


def prepare_batch(batch: pa.Table, work: Work) -> pa.Table:
    """The same in whichever process Ray has free: it opens the dataset once and keeps it."""
    key = work.store, work.run, work.digest
    if key not in _kept:
        _kept.clear()
        _kept[key] = Worker(work)
    return _kept[key](batch)


def on_ray_data(
    work: Work, numbers: Sequence[int], workers: PrepareWorkers, keeps: bool, stop_requested: Callable[[], bool]
) -> Iterator[Done]:
    """Prepare these row groups and yield the report of each as it ends; ends early when a stop is requested.

    keeps: the steps have something to keep that is slow to make (a model); then a pool of actors, else tasks.
    Raises the UserError that a step raised.
    """
    import ray.data  # takes a second, and only here is it needed

    _hush()
    there = ray.cluster_resources()
    capacity = there.get("CPU", 1)
    options: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": 1}
    if workers.gpus:
        options["num_gpus"] = workers.gpus
        capacity = min(capacity, there.get("GPU", 0) / workers.gpus)
    size = min(len(numbers), workers.number or max(1, int(capacity)))
    # The numbers are in the object store before anything starts. Were they a source to read (`ray.data.range`), the
    # tasks that read it would wait for ever for the CPUs that the actors of a small cluster hold.
    groups = ray.data.from_items([{"number": n} for n in numbers], override_num_blocks=min(len(numbers), _BLOCKS))
    if keeps:
        pool = ray.data.ActorPoolStrategy(size=size)
        flow = groups.map_batches(Worker, fn_constructor_args=(work,), compute=pool, **options)
    else:
        tasks = ray.data.TaskPoolStrategy(size=size)
        flow = groups.map_batches(prepare_batch, fn_kwargs={"work": work}, compute=tasks, **options)
    for batch in flow.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            error = row.pop("error")
            if error is not None:
                raise _error(row["number"], json.loads(error))
            yield Done(**row)
        if stop_requested():
            return


def _error(number: int, said: dict[str, Any]) -> Exception:
    if "trace" in said:
        return RuntimeError(f"row group {number} cannot be prepared:\n{said['trace']}")
    return UserError(said["message"], allowed=said["allowed"], hint=said["hint"])


def _hush() -> None:
    """Ray Data's own bars, plans and hints off: a run has one bar, of rows."""
    from ray.data import DataContext

    with warnings.catch_warnings():
        # Ray 2.60 warns of its own default for the push-based shuffle, which nothing here uses.
        warnings.simplefilter("ignore", DeprecationWarning)
        context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
