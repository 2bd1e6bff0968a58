"""What is left on the store after a sweep: the files that kept commits name, and nothing else."""

import warnings
from collections.abc import Callable

import pytest
from training_states import HOME, Ranks, by_rows, same, state, whole

from cluster.errors import StoreError
from cluster.store import Store
from jobs.checkpoints.commit import committed_steps, read_commit


def left(store: Store) -> set[str]:
    return {key.removeprefix(f"{HOME}/") for key in store.list(HOME)}


def wanted(store: Store) -> set[str]:
    """What the commits name."""
    commits = [read_commit(store, HOME, step) for step in committed_steps(store, HOME)]
    return {"ATTEMPT.json"} | {name for commit in commits for name in (*commit.files, f"{commit.step:08d}/COMMIT.json")}


def test_only_kept_checkpoints_stay(begin: Callable[..., Ranks], store: Store) -> None:
    ranks = begin(2, keep_last=2, keep_every=40)
    for step in range(10, 80, 10):
        ranks.save(step, state(step), best=step in (10, 30))
    assert committed_steps(store, HOME) == [30, 40, 60, 70]
    assert left(store) == wanted(store)


def test_best_weights_stay_as_long_as_a_kept_checkpoint_names_them(begin: Callable[..., Ranks], store: Store) -> None:
    everything, ranks = state(1, ("value", "best")), begin(2, keep_last=1, keep_best=0)
    for step in (10, 20, 30):
        everything["value"] = state(step)["value"]
        ranks.save(step, everything)
    assert committed_steps(store, HOME) == [30]
    assert left(store) == wanted(store)
    assert any(name.startswith("00000010/") for name in left(store))
    found = ranks.newest()[0]
    assert found is not None
    assert same(whole(found), everything)
    everything["best"] = state(2)["value"]
    ranks.save(40, everything, best=True)
    assert {name[:8] for name in left(store) - {"ATTEMPT.json"}} == {"00000040"}


def test_files_of_dead_attempts_are_swept_when_the_next_begins(begin: Callable[..., Ranks], store: Store) -> None:
    begin(2).save(10, state(1))
    for name in ("a0001-00000.safetensors", "a0001-00001.json", "a0001-00000-best.safetensors"):
        store.write(f"{HOME}/00000015/{name}", b"half of something")
    ranks = begin(2)
    found = ranks.newest()[0]
    assert found is not None
    assert found.step == 10
    assert left(store) == wanted(store)


def test_files_of_attempts_that_committed_nothing_are_swept(begin: Callable[..., Ranks], store: Store) -> None:
    begin(2)
    store.write(f"{HOME}/00000010/a0001-00001.safetensors", b"half of something")
    assert begin(2).newest() == [None, None]
    assert left(store) == {"ATTEMPT.json"}


def test_files_of_a_later_attempt_stay(begin: Callable[..., Ranks], store: Store) -> None:
    ranks = begin(2)
    later = f"{HOME}/00000010/a0002-00000.safetensors"
    store.write(later, b"on its way")
    ranks.save(10, state(1))
    assert store.exists(later)


def test_files_that_are_not_ours_stay(begin: Callable[..., Ranks], store: Store) -> None:
    store.write(f"{HOME}/00000005/remarks.txt", b"somebody's")
    ranks = begin(keep_last=1)
    for step in (10, 20):
        ranks.save(step, state(step))
    assert store.exists(f"{HOME}/00000005/remarks.txt")


@pytest.mark.parametrize("deletions", range(1, 7))
def test_a_sweep_that_was_broken_off_is_finished_by_the_next(
    begin: Callable[..., Ranks], store: Store, monkeypatch: pytest.MonkeyPatch, deletions: int
) -> None:
    ranks = begin(2, by_rows, keep_last=1)
    ranks.save(10, state(10))
    usual, done = type(store).delete, []

    def delete(self: Store, key: str) -> None:
        if len(done) == deletions:
            raise StoreError("the store is gone")
        done.append(key)
        usual(self, key)

    monkeypatch.setattr(type(store), "delete", delete)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ranks.save(20, state(20))
    monkeypatch.undo()
    assert bool(told) == (deletions < 5)  # the commit first, then two files and two indices
    assert done[0].endswith("/COMMIT.json")
    found = begin(2).newest()[1]
    assert found is not None
    assert same(whole(found), state(20))
    assert left(store) == wanted(store)
