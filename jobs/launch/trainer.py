"""Ray Train as it is used here: it starts workers once, and decides nothing."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.config import LoggingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from jobs.launch.meeting import Meeting
from jobs.launch.member import run

SETTINGS = {  # of Ray Train, which knows no other way to be told
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # how soon the end of a worker is noticed; 2 s unless set
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # `leaving` looks, and the loop saves
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path of the spec is relative to where the driver is
}


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """Ray Train without the process that gives places back after the controller: it takes silence for death.

    It asks a dashboard, which an embedded cluster does not have, whether the controller lives. The driver gives them
    back itself.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [each for each in callbacks if not isinstance(each, PlacementGroupCleanerCallback)]


def trainer_of(size: int, resources: Mapping[str, float], board: str, meeting: Meeting, folder: Path) -> Trainer:
    """Workers that hear on this board what to do. folder: on the driver's node, for the little that Ray Train writes.

    Not on the store: the store's keys would travel with Ray Train's settings.
    """
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    return Trainer(
        run,
        train_loop_config={"board": board},
        scaling_config=ScalingConfig(
            num_workers=size, use_gpu=meeting.gpu, resources_per_worker=dict(resources), placement_strategy="PACK"
        ),
        backend_config=meeting,
        run_config=RunConfig(
            name=board,  # nothing of an earlier start is taken up: checkpoints are ours
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
