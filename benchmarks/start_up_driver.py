"""One start of the workers in a driver of its own, for `start_up.py`: prints the seconds until all made a step."""

import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ruamel.yaml import YAML

from cluster.store import open_store
from jobs.launch.board import Board
from jobs.launch.group import Finished, WorkerGroup
from jobs.pulse import Pulse
from jobs.spec.train import TrainSpec

CASE = os.environ["EQUI_BENCH_CASE"]
CPUS = {"CPU": 1.0}
IMPORTS = ("jobs.launch.training", "torch._dynamo", "deepspeed", "torch._inductor.compile_fx")  # as a run does


def on_ray_train(task: dict[str, Any]) -> dict[str, float]:
    """What a worker runs where Ray Train is used as it is."""
    import ray.train

    from jobs.launch.training import Assignment, work
    from jobs.world import World

    context, pulse = ray.train.get_context(), Pulse()
    work(Assignment(**task), World(context.get_world_rank(), context.get_world_size(), pulse))
    return pulse.reading().stages


def ray_train(task: dict[str, Any]) -> float:
    """Unix time of the first step under TorchTrainer."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = TorchTrainer(
            on_ray_train,
            train_loop_config=task,
            scaling_config=ScalingConfig(num_workers=2),
            torch_config=TorchConfig(backend="gloo"),
            run_config=RunConfig(name="bench", storage_path=folder),
        )
        return float(trainer.fit().return_value["first step"])


def ours(task: Any) -> float:
    """Unix time of the first step; the measures that CASE leaves out are not taken."""
    early = () if CASE == "ours cold" else IMPORTS
    if CASE == "ours late":
        task = task()
    with tempfile.TemporaryDirectory() as folder:
        board = Board.new(f"bench-{secrets.token_hex(4)}")
        group = WorkerGroup(2, CPUS, board, Path(folder), timeout=300.0, grace=5.0, prepare=early)
        try:
            group.begin(task() if callable(task) else task)
            end = group.watch(300.0, lambda: None)
        finally:
            group.close()
    if not isinstance(end, Finished):
        raise RuntimeError(str(end))
    return max(reading.stages["first step"] for reading in end.readings if reading is not None)


def main(address: str, store: str, text: str) -> None:
    """Connect, then time."""
    ray.init(address, logging_level="ERROR", log_to_driver=False)
    spec = TrainSpec.model_validate(YAML(typ="safe").load(text))
    spec = spec.with_changes({"schedule.steps": 2, "schedule.eval_every": 2})

    def look_up() -> dict[str, Any]:
        from jobs.build import resolve

        found = resolve(spec, open_store(store)).to_json()
        return {"store": store, "run_id": f"bench-{secrets.token_hex(4)}", "attempt": 1, "resolved": found}

    begun = time.time()
    first = ray_train(look_up()) if CASE == "train" else ours(look_up)
    sys.stdout.write(f"{first - begun}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
