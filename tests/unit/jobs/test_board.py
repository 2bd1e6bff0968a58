"""The driver and its workers over a table that answers, and over one that does not for a while."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ray.exceptions import RaySystemError

from jobs.launch import board as boards
from jobs.launch.board import SOON, Board, Listener, Station
from jobs.pulse import Pulse
from jobs.stopping import StopNotice


class Table:
    """The key-value table of a head, that can be gone."""

    def __init__(self) -> None:
        self.content: dict[bytes, bytes] = {}
        self.gone = False

    def put(self, key: bytes, value: bytes, overwrite: bool, *, namespace: bytes) -> None:
        self._answer()
        self.content[key] = value

    def get(self, key: bytes, *, namespace: bytes) -> bytes | None:
        self._answer()
        return self.content.get(key)

    def delete(self, key: bytes, *, del_by_prefix: bool, namespace: bytes) -> None:
        self._answer()
        self.content = {name: value for name, value in self.content.items() if not name.startswith(key)}

    def _answer(self) -> None:
        if self.gone:
            raise RaySystemError("the head is gone")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    made = Table()
    monkeypatch.setattr(boards, "_internal_kv_put", made.put)
    monkeypatch.setattr(boards, "_internal_kv_get", made.get)
    monkeypatch.setattr(boards, "_internal_kv_del", made.delete)
    monkeypatch.setattr(boards, "BEAT_S", 0.01)
    yield made
    made.gone = False


def station(board: Board, rank: int, notice: StopNotice) -> Station:
    return Station(board, rank, f"node{rank}", "10.0.0.1", Pulse(), notice)


def heard(listener: Listener, condition: Any) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        listener.listen(2)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_new_board_clears_those_of_the_same_run_and_no_others(table: Table) -> None:
    Board.new("run").put("task", {"a": 1})
    other = Board.new("run-2")
    other.put("task", {"b": 2})
    assert Board.new("run").get("task") is None
    assert len(table.content) == 1
    assert Board(other.name).await_value("task", 1.0) == {"b": 2}
    with pytest.raises(TimeoutError, match="has not said 'more' within 0 s"):
        other.await_value("more", 0.0)


def test_ranks_are_heard_and_hear_that_they_should_end(table: Table) -> None:
    board, notices = Board.new("run"), [StopNotice(1.0), StopNotice(1.0)]
    listener = Listener(board)
    with station(board, 0, notices[0]), station(board, 1, notices[1]):
        heard(listener, lambda: len(listener.nodes) == 2)
        assert not notices[0]()
        board.put("stop", SOON)
        heard(listener, lambda: all(notice() for notice in notices))
    assert listener.nodes == {"node0", "node1"}
    assert listener.process(1) == f"pid {os.getpid()} on 10.0.0.1"


def test_a_head_that_is_away_for_a_while_makes_nobody_silent(table: Table) -> None:
    board, listener = Board.new("run"), None
    listener = Listener(board)
    with station(board, 0, StopNotice(1.0)):
        heard(listener, lambda: listener.nodes)
        table.gone = True
        time.sleep(0.2)
        listener.listen(1)
        assert listener.silence(0) < 0.1  # nobody has listened since
        table.gone = False
        before = listener.reading(0)
        heard(listener, lambda: listener.reading(0) != before)  # it still beats


def test_a_rank_that_says_nothing_is_silent_and_one_that_has_said_its_last_is_not(table: Table) -> None:
    board = Board.new("run")
    listener = Listener(board)
    with station(board, 0, StopNotice(1.0)):
        heard(listener, lambda: "node0" in listener.nodes)
    board.put(
        "pulse/1", {"number": 7, "node": "node1", "reading": {"step": 3, "seconds": 1.0, "place": ""}, "last": False}
    )
    listener.listen(2)
    time.sleep(0.2)
    listener.listen(2)
    assert listener.silence(0) == 0.0
    assert listener.silence(1) >= 0.2
    assert listener.silence(2) == 0.0  # never heard
