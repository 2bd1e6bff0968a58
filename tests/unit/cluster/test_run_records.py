"""Run records on a store in a folder: created once, changed by events, fenced by attempt, judged from outside."""

import os
import pickle
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from cluster.errors import ConflictError, NotFoundError, StoreError, UserError
from cluster.processes import is_alive, start_mark, this_process
from cluster.run_status import Judgement, StatusError
from cluster.runs import (
    RUN_ID,
    RunError,
    Where,
    create_run,
    happen,
    judge_run,
    list_runs,
    load_run,
    load_spec_text,
    new_run_id,
    next_attempt,
    update_run,
)
from cluster.store import encode_json


def make(store, run_id="r1", **changes):
    return create_run(store, kind="train", name="ethanol", spec="kind: train\n", run_id=run_id, **changes)


def test_a_new_run_is_pending_and_keeps_its_spec(store):
    record = make(store)
    assert load_run(store, "r1") == record
    assert (record.status, record.attempt, record.is_over) == ("pending", 1, False)
    assert load_spec_text(store, "r1") == "kind: train\n"
    assert len(record.spec_digest) == 64


def test_an_id_is_given_once_and_the_first_run_stays_as_it_was(store):
    first = make(store)
    with pytest.raises(ConflictError, match="r1 exists already"):
        create_run(store, kind="label", name="other", spec="kind: label\n", run_id="r1")
    assert load_run(store, "r1") == first
    assert load_spec_text(store, "r1") == "kind: train\n"


def test_one_of_many_who_want_the_same_id_gets_it(store):
    won = []

    def race(number):
        try:
            won.append(create_run(store, kind="k", name=str(number), spec=f"n: {number}", run_id="same").name)
        except ConflictError:
            return

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert load_run(store, "same").name == won[0]


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "Upper", "a" * 61, "-a", "a-", "ä", "a.b", "a b"])
def test_what_cannot_be_an_id_is_refused(store, bad):
    with pytest.raises(UserError, match="cannot be a run id"):
        load_run(store, bad)


@pytest.mark.parametrize("name", ["ethanol", "Ethanol xTB/GFN2", "-", "x" * 200, "ä"])
def test_a_made_up_id_is_always_a_valid_one_and_never_the_same(name):
    ids = {new_run_id("train", name) for _ in range(3)}
    assert len(ids) == 3
    assert all(RUN_ID.fullmatch(run_id) for run_id in ids)


def test_an_unknown_run_is_a_clear_error(store):
    with pytest.raises(NotFoundError, match="there is no run nothing-here"):
        load_run(store, "nothing-here")


def test_events_move_the_status_and_set_the_times(store):
    make(store)
    started = happen(store, "r1", "start")
    assert started.status == "running"
    assert started.started is not None
    assert started.ended is None
    ended = happen(store, "r1", "fail", error=RunError(message="boom", rank=1))
    assert (ended.status, ended.error.rank) == ("failed", 1)
    assert ended.ended >= ended.started


def test_a_status_is_never_set_by_hand(store):
    make(store)
    with pytest.raises(ValueError, match="happen"):
        update_run(store, "r1", status="succeeded")


def test_the_next_attempt_starts_afresh_and_remembers_what_it_is(store):
    make(store)
    happen(store, "r1", "start")
    failed = happen(store, "r1", "fail", error=RunError(message="boom"))
    record = next_attempt(store, failed, Judgement("failed"), Where())
    assert (record.status, record.attempt, record.error, record.ended) == ("pending", 2, None, None)
    assert record.created == failed.created


def test_a_run_judged_lost_can_be_resumed_though_its_record_says_running(store):
    make(store)
    running = happen(store, "r1", "start")
    assert next_attempt(store, running, Judgement("lost", "silent"), Where()).attempt == 2


@pytest.mark.parametrize("status", ["pending", "running", "succeeded"])
def test_a_run_that_goes_on_or_has_succeeded_is_not_resumed(store, status):
    record = make(store)
    with pytest.raises(StatusError, match=f"is {status} and cannot be resumed"):
        next_attempt(store, record, Judgement(status), Where())


def test_of_two_who_resume_at_once_one_is_refused(store):
    make(store)
    failed = happen(store, "r1", "fail")
    next_attempt(store, failed, Judgement("failed"), Where())
    with pytest.raises(ConflictError, match="changed meanwhile"):
        next_attempt(store, failed, Judgement("failed"), Where())


def test_an_attempt_that_is_over_cannot_speak_for_the_one_that_took_over(store):
    make(store)
    running = happen(store, "r1", "start")
    next_attempt(store, running, Judgement("lost"), Where())
    with pytest.raises(ConflictError, match="attempt 1 of run r1 is over"):
        happen(store, "r1", "succeed", attempt=1)
    assert load_run(store, "r1").status == "pending"


def test_runs_are_listed_newest_first_and_strangers_are_passed_over(store):
    for name in ("one", "two", "three"):
        make(store, name)
    store.write("runs/stranger/notes.txt", b"not a run")
    assert [record.id for record in list_runs(store)] == ["three", "two", "one"]


def test_a_record_of_a_later_version_is_still_read_and_a_broken_one_is_a_clear_error(store):
    record = make(store)
    later = {**record.model_dump(mode="json"), "field_of_the_future": 1}
    store.write("runs/r1/record.json", encode_json(later))
    assert load_run(store, "r1") == record
    store.write("runs/r1/record.json", b'{"id": "r1"}')
    with pytest.raises(StoreError, match="is no run record"):
        load_run(store, "r1")


def test_a_run_is_lost_when_its_heart_has_not_beaten_for_a_minute(store):
    make(store)
    record = happen(store, "r1", "start")
    now = datetime.now(UTC)
    assert judge_run(store, record, now=now)[1].status == "running"
    later = now + timedelta(seconds=90)
    assert judge_run(store, record, now=later)[1].status == "lost"
    store.write("runs/r1/heartbeat.json", encode_json({"time": later.timestamp() - 10}))
    assert judge_run(store, record, now=later)[1].status == "running"


def test_an_old_heartbeat_of_an_earlier_attempt_does_not_make_a_new_one_lost(store):
    make(store)
    store.write("runs/r1/heartbeat.json", encode_json({"time": time.time() - 3600}))
    failed = happen(store, "r1", "fail")
    record = next_attempt(store, failed, Judgement("failed"), Where())
    assert judge_run(store, record)[1].status == "pending"


def test_a_run_whose_process_has_ended_is_lost_and_a_run_of_this_process_is_not(store):
    make(store)
    pid, mark, host = this_process()
    happen(store, "r1", "start", where=Where(pid=pid, pid_started=mark, host=host))
    assert judge_run(store, load_run(store, "r1"))[1].status == "running"
    gone = Where(pid=pid, pid_started="another boot:1", host=host)
    record = update_run(store, "r1", where=gone)
    assert judge_run(store, record)[1] == Judgement("lost", "its driver process is gone")
    elsewhere = update_run(store, "r1", where=gone.model_copy(update={"host": "elsewhere"}))
    assert judge_run(store, elsewhere)[1].status == "running"


def test_an_end_written_between_two_looks_is_believed_over_the_missing_process(store):
    make(store)
    where = Where(pid=os.getpid(), pid_started="another boot:1", host=this_process()[2])
    seen = happen(store, "r1", "start", where=where)
    happen(store, "r1", "succeed")
    assert judge_run(store, seen)[1].status == "succeeded"


def test_a_process_is_told_from_a_later_one_of_the_same_number():
    pid, mark, host = this_process()
    assert is_alive(pid, mark, host) is True
    assert is_alive(pid, "another boot:1", host) is False
    assert is_alive(pid, mark, "another host") is None
    assert is_alive(None, None, host) is None


def test_a_zombie_counts_as_gone():
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while start_mark(process.pid) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert start_mark(process.pid) is None


def test_every_error_about_runs_survives_pickling():
    error = StatusError("a run that is running cannot start", allowed="pending")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.exit_code, type(again)) == (str(error), 2, StatusError)
