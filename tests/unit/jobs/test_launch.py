"""Starts of workers without a cluster: who gets which rank, how many there may be, what becomes of an error."""

import subprocess
import sys
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2._internal.execution.failure_handling import FailureDecision, create_failure_policy
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from cluster.errors import UserError
from jobs.failure import Cause, Failure, classify
from jobs.launch.errors import WorkersFailedError
from jobs.launch.meeting import Meeting
from jobs.launch.member import RankFailedError
from jobs.launch.run import _error, _policy
from jobs.launch.sizes import larger, sizes
from jobs.launch.symptoms import symptoms_of
from jobs.launch.trainer import trainer_of
from jobs.spec.train import TrainSpec


def spec(**changes: object) -> TrainSpec:
    base = {
        "spec_version": 1,
        "kind": "train",
        "name": "springs",
        "data": {"uri": "datasets/springs", "batch": {"structures": 24}},
        "model": {"name": "gaunt_potential"},
        "objective": {"name": "energy_force"},
    }
    return TrainSpec.model_validate(base).with_changes(changes)


def test_only_sizes_that_share_the_micro_batches_evenly_are_used() -> None:
    assert sizes(spec(**{"resources.workers": 3})) == [3]
    assert sizes(spec(**{"resources.workers": {"min": 1, "max": 4}})) == [1, 2, 4]
    assert sizes(spec(**{"resources.workers": {"min": 2, "max": 6}})) == [2, 3, 6]
    assert sizes(spec(**{"resources.workers": {"min": 1, "max": 4}, "strategy.accumulate": 3})) == [1, 2, 3, 4]


def test_a_run_grows_to_the_next_size() -> None:
    assert larger([1, 2, 4], 1) == 2
    assert larger([1, 2, 4], 2) == 4
    assert larger([1, 2, 4], 4) is None


def test_halving_is_told_the_micro_batch_of_a_worker() -> None:
    assert _policy(spec(**{"resources.workers": 4, "strategy.accumulate": 3})).micro_batch == 2
    assert _policy(spec(**{"data.batch": {"atoms": 100}})).micro_batch is None


def test_what_a_user_can_put_right_is_a_users_error() -> None:
    assert isinstance(_error(Failure(Cause.REFUSED, "rank 0: no"), "rank 0: no", ()), UserError)
    error = _error(Failure(Cause.ERROR, "rank 1: KeyError: 'a'", 1), "rank 1: KeyError: 'a'", ("rank 1: Traceback",))
    assert isinstance(error, WorkersFailedError)
    assert error.rank == 1
    assert error.__notes__ == ["rank 1: Traceback"]


@pytest.mark.parametrize("rank", [0, None])
def test_a_failure_of_workers_survives_pickling(rank: int | None) -> None:
    import pickle

    found = pickle.loads(pickle.dumps(WorkersFailedError("rank 0: no", rank)))
    assert (str(found), found.rank) == ("rank 0: no", rank)


def test_the_error_of_a_rank_travels_in_words_and_is_found_inside_of_what_is_wrapped_around_it() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(RankFailedError("KeyError", ("LookupError",), "'a'", "Traceback")))
    task = RayTaskError("run", "Traceback", error, proctitle="worker", pid=1, ip="127.0.0.1")
    group = WorkerGroupError("workers failed", {1: WorkerHealthCheckFailedError("no answer", task), 0: error})
    (first, trace), (second, _) = symptoms_of(group)
    assert (first.rank, first.kind, first.text, first.bases) == (0, "KeyError", "'a'", ("LookupError",))
    assert trace == "Traceback"
    assert (second.rank, second.kind) == (1, "KeyError")


def test_a_process_that_died_is_found_with_its_rank() -> None:
    died = WorkerGroupError("workers failed", {1: WorkerHealthCheckFailedError("no answer", ActorDiedError())})
    failure = classify([one for one, _ in symptoms_of(died)])
    assert (failure.cause, failure.rank) == (Cause.KILLED, 1)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError("the process group could not be made"), Cause.ERROR),
        (WorkerGroupStartupTimeoutError(2), Cause.NO_ROOM),
        (WorkerGroupStartupFailedError("a worker died"), Cause.KILLED),
    ],
)
def test_what_failed_before_there_were_ranks_is_told_in_its_own_words(error: Exception, cause: Cause) -> None:
    ((symptom, _),) = symptoms_of(ControllerError(error))
    assert symptom.rank is None
    assert symptom.text == str(error)
    assert classify([symptom]).cause is cause


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray copies all settings of its own, old ones too
def test_ray_train_starts_workers_once_whatever_becomes_of_them(tmp_path: Path) -> None:
    trainer = trainer_of(2, {"CPU": 1.0}, "board", Meeting("board"), tmp_path)
    policy = create_failure_policy(trainer.run_config.failure_config)
    preempted = ActorDiedError()
    preempted._preempted = True  # the public name cannot be set; only a cluster that loses a node makes such an error
    assert preempted.preempted
    for error in (
        ControllerError(WorkerGroupStartupFailedError("a worker died")),
        ControllerError(WorkerGroupStartupTimeoutError(2)),
        WorkerGroupError("workers failed", {0: ActorDiedError()}),
        WorkerGroupError("workers failed", {0: WorkerHealthCheckFailedError("no answer", preempted)}),
    ):
        assert policy.make_decision(error) is FailureDecision.RAISE, error
    names = [type(callback).__name__ for callback in trainer._create_default_callbacks()]
    assert "BackendSetupCallback" in names
    assert "PlacementGroupCleanerCallback" not in names
    assert "WorkingDirectorySetupCallback" not in names


def test_a_driver_that_waits_for_its_workers_has_not_waited_for_torch() -> None:
    program = "import sys, jobs.train, jobs.launch.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
