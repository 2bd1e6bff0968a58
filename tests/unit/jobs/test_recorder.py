"""What a run leaves on the store while it trains."""

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.errors import StoreError
from cluster.store import Store, open_store
from cluster.store.local import LocalStore
from jobs import recorder as recorder_module
from jobs.recorder import Plan, StoreRecorder
from jobs.recording.behind import Behind
from jobs.recording.events import event, read_events, write_event
from jobs.recording.history import read_history

MEASURED = ("valid/loss", "valid/force_mae")
PLAN = Plan(metric="valid/force_mae", measured=MEASURED, evaluate_every=10, save_every=5)


def recorder(store: Store, plan: Plan = PLAN, total: int = 30, attempt: int = 1) -> StoreRecorder:
    return StoreRecorder(store, "r1", attempt, total, lambda values: None, plan)


def trained(one: StoreRecorder, first: int, last: int, loss: float = 1.0) -> None:
    """Steps first to last as the loop tells of them."""
    for step in range(first, last + 1):
        one.progressed(step, {"loss": loss / step, "lr": 0.1, "step": step, "seconds_left": 9.0})
        if step % 10 == 0:
            one.happened(step, "best", {"valid/force_mae": 0.25})
            one.measured(step, {"train/loss": loss / step, "valid/loss": 2.0, "valid/force_mae": 0.25})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def test_every_step_is_a_row_in_few_files_that_any_program_reads(store: Store, tmp_path: Path) -> None:
    with closing(recorder(store)) as one:
        trained(one, 1, 28)
    files = sorted((tmp_path / "runs" / "r1" / "metrics").iterdir())
    assert [len(pq.read_table(file)) for file in files] == [5, 5, 5, 5, 5, 3]  # checkpoints, evaluations, the end
    table = pq.read_table(tmp_path / "runs" / "r1" / "metrics")
    assert table["step"].to_pylist() == list(range(1, 29))
    assert table["loss"].to_pylist() == [1 / step for step in range(1, 29)]
    measured = {row["step"]: row["valid/force_mae"] for row in table.to_pylist() if row["valid/force_mae"] is not None}
    assert measured == {10: 0.25, 20: 0.25}
    assert "seconds_left" not in table.column_names


def test_files_are_there_before_the_checkpoint_is_and_are_never_written_again(store: Store, tmp_path: Path) -> None:
    one = recorder(store)
    trained(one, 1, 5)
    (first,) = (tmp_path / "runs" / "r1" / "metrics").iterdir()  # without closing: the worker may be killed here
    before = first.stat().st_mtime_ns
    trained(one, 6, 12)
    one.close()
    assert first.stat().st_mtime_ns == before


def test_of_steps_that_were_taken_twice_the_later_start_counts(store: Store) -> None:
    first = recorder(store)
    trained(first, 1, 13)
    first.happened(13, "preempted", {})
    again = recorder(store)  # the same attempt of the run: its workers were started again, from the checkpoint at 10
    again.happened(10, "resumed", {"workers": 2})
    trained(again, 11, 20, loss=3.0)
    first.close()
    again.close()
    table = read_history(store, "r1")
    assert table["step"].to_pylist() == list(range(1, 21))
    assert table["loss"].to_pylist() == [1 / step for step in range(1, 11)] + [3 / step for step in range(11, 21)]
    assert table["attempt"].to_pylist() == [1] * 10 + [2] * 10
    told = [(e.step, e.what, e.attempt) for e in read_events(store, "r1") if e.what != "best"]
    assert told == [(13, "preempted", 1), (10, "resumed", 2)]


def test_a_run_without_measurements_has_the_columns_all_the_same(store: Store) -> None:
    table = read_history(store, "r1")
    assert (len(table), table.column_names) == (0, ["step", "attempt", "time", "loss"])


def test_a_long_run_keeps_a_bounded_number_of_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MOST_ROWS", 10)
    with closing(recorder(store, Plan(), total=30)) as one:
        trained(one, 1, 9)
    assert read_history(store, "r1")["step"].to_pylist() == [3, 6, 9]


def test_the_position_is_readable_at_any_time_and_is_json(store: Store) -> None:
    emitted: list[Mapping[str, float]] = []
    one = StoreRecorder(store, "r1", 2, 30, emitted.append, PLAN)
    one.progressed(1, {"loss": 2.0})
    one.progressed(2, {"loss": 1.0})  # too soon after the first to be told
    one.progressed(30, {"loss": math.nan})
    one.close()
    news = json.loads(store.read("runs/r1/live.json"))
    assert (news["completed"], news["total"], news["now"]["loss"], news["attempt"]) == (30, 30, None, 2)
    assert news["metric"] == "valid/force_mae"
    assert [values["loss"] for values in emitted[:1]] == [2.0]
    assert len(emitted) == 2


def test_the_share_of_the_peak_is_told_only_where_there_is_one(store: Store) -> None:
    one = recorder(store, Plan(peak=4e12))
    one.progressed(30, {"loss": 1.0, "flops_per_second": 1e12})
    one.close()
    assert read_history(store, "r1")["mfu"].to_pylist() == [0.25]
    other = recorder(store)
    other.progressed(30, {"loss": 1.0, "flops_per_second": 1e12})
    other.close()
    assert "mfu" not in json.loads(store.read("runs/r1/live.json"))["now"]


class Failing(LocalStore):
    """A store that refuses writes while it is down."""

    down = threading.Event()

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if self.down.is_set():
            raise StoreError("the store is down")
        return super().write(key, data, if_absent=if_absent, if_match=if_match)


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    monkeypatch.setattr("jobs.recording.behind.RETRY_S", 0.01)
    Failing.down.clear()
    yield Failing(tmp_path)
    Failing.down.clear()


def test_training_goes_on_while_the_store_is_down_and_nothing_is_lost(failing: Failing) -> None:
    one = recorder(failing)
    trained(one, 1, 3)
    failing.down.set()
    trained(one, 4, 20)
    failing.down.clear()
    one.close()
    assert read_history(failing, "r1")["step"].to_pylist() == list(range(1, 21))


def test_measurements_that_could_not_be_written_are_told_at_the_end(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "LAST_WORDS_S", 0.1)
    one = recorder(failing)
    trained(one, 1, 3)
    failing.down.set()
    with pytest.warns(UserWarning, match="the last measurements of run r1 were not written"):
        one.close()


def test_a_fault_of_our_own_is_not_kept_silent() -> None:
    behind, done = Behind(), threading.Event()

    def wrong() -> None:
        done.set()
        raise TypeError("ours")

    behind.put("a", wrong)
    assert done.wait(5)
    behind.close(5)
    with pytest.raises(TypeError, match="ours"):
        behind.put("b", lambda: None)


def test_of_jobs_with_one_name_that_wait_the_newest_is_done() -> None:
    behind, gate, done = Behind(), threading.Event(), []

    def job(number: int) -> Callable[[], None]:
        return lambda: done.append(number)

    behind.put("first", lambda: gate.wait(5) and None)
    for number in range(3):
        behind.put("live", job(number))
    gate.set()
    assert behind.close(5)
    assert done == [2]


def test_events_of_two_writers_never_replace_each_other(store: Store) -> None:
    told: list[dict[str, Any]] = [{"cause": "rank 1: killed"}, {"cause": "rank 0: killed"}]
    threads = [
        threading.Thread(target=write_event, args=(store, "r1", event(7, "restarted", one, attempt=1))) for one in told
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.write("runs/r1/events/notes.json", b"[]")  # not ours
    found = read_events(store, "r1")
    assert sorted(one.details["cause"] for one in found) == ["rank 0: killed", "rank 1: killed"]
    assert [key.rpartition("/")[2] for key in store.list("runs/r1/events")][:2] == ["001-00000.json", "001-00001.json"]
