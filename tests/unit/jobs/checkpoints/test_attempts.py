"""Workers of an earlier attempt that wake up late: they commit nothing, and break nothing."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from training_states import HOME, SHAPES, Ranks, flat, same, state, whole

from cluster.store import Store
from jobs.checkpoints import OutdatedAttemptError, run_checkpoints
from jobs.checkpoints.attempt import claim, require_current
from jobs.checkpoints.commit import Commit, Stored, committed_steps, read_commit, write_commit
from jobs.checkpoints.retention import orphans


def commit(attempt: int, step: int = 10) -> Commit:
    return Commit(step, attempt, 1, False, {f"of {attempt}": Stored("", 0)}, (), (), {}, {})


def test_each_attempt_has_a_number_of_its_own(store: Store) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(claim(store, HOME))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 9))
    require_current(store, HOME, 8)
    with pytest.raises(OutdatedAttemptError, match="attempt 8 at this run has taken over from attempt 7"):
        require_current(store, HOME, 7)


def test_an_old_attempt_commits_nothing_after_a_new_one_began(begin: Callable[..., Ranks], store: Store) -> None:
    old = begin(2)
    old.save(10, state(10))
    begin(2)
    store.write(f"{HOME}/00000020/a0001-00001.json", b'{"files": []}')
    old.ranks[0].save(20, flat(state(20), 0, 1), SHAPES, {}, best=False)
    with pytest.raises(OutdatedAttemptError, match="attempt 2 at this run has taken over"):
        old.ranks[0].finish()
    assert committed_steps(store, HOME) == [10]


def test_an_old_attempt_sweeps_nothing(begin: Callable[..., Ranks], store: Store) -> None:
    old = begin(keep_last=1)
    old.save(10, state(10))
    new = begin(keep_last=3)
    new.newest()
    new.save(20, state(20))
    before = store.list(HOME)
    with pytest.raises(OutdatedAttemptError):
        old.save(30, state(30))
    assert set(before) <= set(store.list(HOME))
    found = begin().newest()[0]
    assert found is not None
    assert same(whole(found), state(20))
    assert not [key for key in store.list(HOME) if "a0001-00000" in key and "00000030" in key]


def test_the_commit_of_a_later_attempt_is_never_replaced(store: Store) -> None:
    write_commit(store, HOME, commit(3))
    with pytest.raises(OutdatedAttemptError, match="attempt 3 has committed step 10 already"):
        write_commit(store, HOME, commit(2))
    assert read_commit(store, HOME, 10).attempt == 3


def test_a_commit_whose_answer_was_lost_is_no_conflict(store: Store) -> None:
    write_commit(store, HOME, commit(2))
    write_commit(store, HOME, commit(2))


def test_the_commit_of_an_earlier_attempt_gives_way(store: Store) -> None:
    """It woke up between looking and writing: its files may have been swept, ours are there."""
    write_commit(store, HOME, commit(1))
    write_commit(store, HOME, commit(2))
    assert read_commit(store, HOME, 10).files.keys() == {"of 2"}


def test_what_cannot_be_read_gives_way_too(store: Store) -> None:
    store.write(f"{HOME}/00000010/COMMIT.json", b"{")
    write_commit(store, HOME, commit(1))
    assert read_commit(store, HOME, 10).attempt == 1


def test_a_commit_that_an_earlier_attempt_makes_late_costs_nothing(begin: Callable[..., Ranks], store: Store) -> None:
    """It was frozen between looking for its number and creating the commit, and its files are gone."""
    begin().save(10, state(10))
    ranks = begin(keep_last=1)
    ranks.newest()
    write_commit(store, HOME, commit(1, step=20))
    ranks.save(15, state(15))
    assert committed_steps(store, HOME) == [15]
    write_commit(store, HOME, commit(1, step=20))
    ranks.save(20, state(20))
    found = begin().newest()[0]
    assert found is not None
    assert same(whole(found), state(20))


@pytest.mark.parametrize("name", ["read_commit", "read_indices"])
def test_a_checkpoint_that_an_earlier_attempt_sweeps_while_it_is_read_is_no_damage(
    begin: Callable[..., Ranks], store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The next commit of that attempt was under way when this one began: it is what counts now."""
    old = begin(keep_last=1)
    old.save(10, state(10))
    new = begin()
    usual, done = getattr(run_checkpoints, name), []

    def late(*arguments: Any) -> Any:
        if not done:
            done.append(True)
            with monkeypatch.context() as looked_before:
                for module in ("saving", "sweep"):
                    looked_before.setattr(f"jobs.checkpoints.{module}.require_current", lambda *arguments: None)
                old.save(20, state(20))
        return usual(*arguments)

    monkeypatch.setattr(run_checkpoints, name, late)
    found = new.newest()[0]
    assert found is not None
    assert same(whole(found), state(20))


def test_names_tell_attempts_apart_beyond_the_fourth_digit() -> None:
    names = ["00000010/a9999-00000.json", "00000010/a10000-00000.json"]
    assert orphans(names, [], attempt=10000, committed=5) == names[:1]
