"""Behind the training: a store that is down is waited for, what goes wrong is raised at the next call."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from training_states import HOME, SHAPES, Ranks, flat, same, state, whole

from cluster.errors import StoreError
from cluster.store import Store
from jobs.checkpoints import UnfinishedCheckpointError
from jobs.checkpoints.commit import committed_steps


class Down:
    """Methods of a store that fail until it is up again."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
        self.up, self.failures = False, 0
        for name in names:
            monkeypatch.setattr(type(store), name, self._failing(getattr(type(store), name)))

    def _failing(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if not self.up:
                self.failures += 1
                raise StoreError("the store is down")
            return usual(*arguments, **options)

        return call


ALL = ("write", "upload_file", "read_tagged", "list", "delete")


def test_training_goes_on_while_the_store_is_down(
    begin: Callable[..., Ranks], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = begin()
    (checkpoints,) = ranks.ranks
    down = Down(store, monkeypatch, ALL)
    began = time.monotonic()
    checkpoints.save(10, flat(state(10), 0, 1), SHAPES, {}, best=False)
    assert time.monotonic() - began < 1
    time.sleep(0.5)
    down.up = True
    checkpoints.finish()
    assert down.failures > 1
    assert committed_steps(store, HOME) == [10]


def test_patience_ends_and_the_next_call_says_so(
    begin: Callable[..., Ranks], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoints,) = begin(patience=0.5).ranks
    down = Down(store, monkeypatch, ("upload_file",))
    checkpoints.save(10, flat(state(10), 0, 1), SHAPES, {}, best=False)
    with pytest.raises(StoreError, match="the store is down"):
        checkpoints.save(20, flat(state(20), 0, 1), SHAPES, {}, best=False)
    down.up = True
    checkpoints.save(30, flat(state(30), 0, 1), SHAPES, {}, best=False)
    checkpoints.finish()
    assert committed_steps(store, HOME) == [30]


def test_a_rank_that_does_not_come_is_named(begin: Callable[..., Ranks], store: Store) -> None:
    ranks = begin(3, patience=0.5)
    for rank in (0, 2):
        ranks.ranks[rank].save(10, flat(state(10), rank, 3), SHAPES, {}, best=False)
    words = "checkpoint 10 cannot be committed: the part of rank 1 has not come"
    with pytest.raises(UnfinishedCheckpointError, match=words):
        ranks.ranks[0].finish()
    with pytest.raises(UnfinishedCheckpointError, match="checkpoint 10 was not committed: rank 0 is gone or waits for"):
        ranks.ranks[2].finish()
    assert committed_steps(store, HOME) == []


def test_the_next_save_waits_for_the_one_before(
    begin: Callable[..., Ranks], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoints,) = begin().ranks
    usual, gate = type(store).upload_file, threading.Event()

    def slow(*arguments: Any) -> None:
        gate.wait(20)
        usual(*arguments)

    monkeypatch.setattr(type(store), "upload_file", slow)
    checkpoints.save(10, flat(state(10), 0, 1), SHAPES, {}, best=False)
    threading.Timer(0.5, gate.set).start()
    began = time.monotonic()
    checkpoints.save(20, flat(state(20), 0, 1), SHAPES, {}, best=False)
    assert time.monotonic() - began > 0.4
    assert 10 in committed_steps(store, HOME)
    checkpoints.finish()
    found = checkpoints.newest()
    assert found is not None
    assert same(whole(found), state(20))


def test_what_is_half_written_on_the_local_disk_is_removed(
    begin: Callable[..., Ranks], store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (checkpoints,) = begin(patience=0.2).ranks
    Down(store, monkeypatch, ("upload_file",))
    checkpoints.save(10, flat(state(10), 0, 1), SHAPES, {}, best=False)
    with pytest.raises(StoreError):
        checkpoints.finish()
    assert list((tmp_path / "scratch-0").iterdir()) == []
