"""Starts of workers without a cluster: who gets which rank, how many there may be, what becomes of an error."""

import pytest

from cluster.errors import UserError
from jobs.failure import Cause, Failure
from jobs.launch.errors import WorkersFailedError
from jobs.launch.group import _symptom
from jobs.launch.member import RankFailedError
from jobs.launch.run import _error, _policy
from jobs.launch.sizes import larger, sizes
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
    wrapped = RuntimeError("outer")
    wrapped.cause = error  # type: ignore[attr-defined]
    found = _symptom(1, wrapped)
    assert (found.rank, found.kind, found.text, found.bases) == (1, "KeyError", "'a'", ("LookupError",))
