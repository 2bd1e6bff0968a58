"""What workers of a preparation send back: reports, errors of users, faults of ours. In this process, without Ray."""

import json
from typing import Any

import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.store import Store
from jobs.prepare import flow
from jobs.prepare.flow import Worker, prepare_batch
from jobs.prepare.group import Done, Work

BATCH = pa.table({"number": [3]})


class Steps:
    """In place of a `Preparation`."""

    made = 0

    def __init__(self, work: Work) -> None:
        Steps.made += 1

    def prepare(self, number: int) -> Done:
        return Done(number, 64, 5)


def work(run: str = "r1", digest: str = "d") -> Work:
    return Work("file:///nowhere", run, "a@1", digest, (), True)


def raising(error: Exception) -> type[Steps]:
    class Broken(Steps):
        def prepare(self, number: int) -> Done:
            raise error

    return Broken


def told(table: pa.Table) -> tuple[dict[str, Any], Exception | None]:
    (row,) = table.to_pylist()
    error = row.pop("error")
    return row, None if error is None else flow._error(row["number"], json.loads(error))


def test_a_report_comes_back_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "Preparation", Steps)
    row, error = told(Worker(work())(BATCH))
    assert (row, error) == ({"number": 3, "rows": 64, "dropped": 5}, None)


def test_an_error_of_the_user_comes_back_with_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "Preparation", raising(UserError("wrong", allowed="right", hint="try")))
    _, error = told(Worker(work())(BATCH))
    assert isinstance(error, UserError)
    assert (error.message, error.allowed, error.hint) == ("wrong", "right", "try")


def test_a_fault_of_ours_names_the_row_group_and_where_it_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "Preparation", raising(ZeroDivisionError("by nothing")))
    _, error = told(Worker(work())(BATCH))
    assert isinstance(error, RuntimeError)
    assert "row group 3" in str(error)
    assert "ZeroDivisionError: by nothing" in str(error)
    assert "test_prepare_workers.py" in str(error)


def test_a_process_keeps_its_steps_for_one_run_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "Preparation", Steps)
    monkeypatch.setattr(flow, "_kept", {})
    monkeypatch.setattr(Steps, "made", 0)
    for run, digest, made in (("r1", "d", 1), ("r1", "d", 1), ("r2", "d", 2), ("r2", "e", 3), ("r2", "e", 3)):
        prepare_batch(BATCH, work(run, digest))
        assert Steps.made == made


def test_a_dataset_that_is_gone_is_an_error_of_the_user(store: Store) -> None:
    gone = Work(store.uri, "r1", "gone@1", "d", (), True)
    _, error = told(Worker(gone)(BATCH))
    assert isinstance(error, UserError)
    assert "gone" in error.message
