"""What leaves an attempt decides what the record says; signals become Stop once; the heart beats and listens."""

import io
import os
import signal
import threading
import time

import pytest

from cluster.driver import attempt, run_driver, run_error
from cluster.errors import ClusterError, ConflictError, UserError
from cluster.heartbeat import Heartbeat
from cluster.run_log import copied_output, fetch_log, keep_log, log_path
from cluster.run_status import Judgement, StatusError
from cluster.runs import Where, create_run, happen, load_run, next_attempt, update_run
from cluster.stopping import Stop, StopSignals
from cluster.store import open_store


@pytest.fixture
def run(store):
    return create_run(store, kind="train", name="x", spec="kind: train\n", run_id="r1").id


def test_an_attempt_that_ends_well_leaves_its_outputs(store, run):
    with attempt(store, run) as current:
        assert load_run(store, run).status == "running"
        assert load_run(store, run).where.pid == os.getpid()
        current.outputs = {"dataset": "d@1"}
    record = load_run(store, run)
    assert (record.status, record.outputs) == ("succeeded", {"dataset": "d@1"})


class RankError(Exception):
    """As a training failure says which worker is to blame."""

    rank = 3


def test_a_failure_is_recorded_with_its_rank_and_its_log_and_goes_on_to_the_caller(store, run):
    with pytest.raises(RankError), attempt(store, run):
        raise RankError("loss is not a number")
    record = load_run(store, run)
    assert record.status == "failed"
    assert record.error.message == "RankError: loss is not a number"
    assert (record.error.rank, record.error.log) == (3, "runs/r1/driver.log")


def test_a_user_error_is_recorded_in_its_own_words():
    error = run_error(ClusterError("no such head", hint="start one"), "r1")
    assert error.message == "no such head"


def test_an_error_that_came_through_ray_is_recorded_by_its_cause():
    class CarrierError(Exception):
        cause = UserError("the dataset is gone")

    assert run_error(CarrierError("long remote traceback"), "r1").message == "the dataset is gone"


@pytest.mark.parametrize("stopped_by", [Stop("SIGTERM"), KeyboardInterrupt(), SystemExit(1)])
def test_being_stopped_is_no_failure(store, run, stopped_by):
    with pytest.raises(Stop), attempt(store, run):
        raise stopped_by
    record = load_run(store, run)
    assert (record.status, record.error) == ("stopped", None)


def test_whatever_breaks_after_a_stop_was_asked_for_is_part_of_the_stop(store, run):
    def break_on_the_way_out():
        with StopSignals() as signals, attempt(store, run, signals=signals):
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                raise SystemError("broken by the signal")

    with pytest.raises(Stop):
        break_on_the_way_out()
    record = load_run(store, run)
    assert (record.status, record.error) == ("stopped", None)


def test_a_second_driver_of_a_running_run_is_refused_and_changes_nothing(store, run):
    with attempt(store, run):
        before = load_run(store, run)
        with pytest.raises(StatusError, match="cannot start"), attempt(store, run):
            pytest.fail("the block must not be entered")
        assert load_run(store, run) == before


def test_a_driver_that_lost_its_run_to_a_later_attempt_leaves_that_attempt_alone(store, run):
    def lose_the_run():
        with attempt(store, run, on_stop=lambda: None) as current:
            next_attempt(store, current.record, Judgement("lost"), Where())
            raise RuntimeError("too late")

    with pytest.raises(RuntimeError, match="too late"):
        lose_the_run()
    record = load_run(store, run)
    assert (record.status, record.attempt, record.error) == ("pending", 2, None)


def test_the_driver_of_an_unknown_run_ends_with_exit_code_2_and_one_line(store, tmp_path, capsys):
    assert run_driver(store, "nobody", home=tmp_path) == 2
    assert "there is no run nobody" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_becomes_stop_once_and_tidying_up_is_left_in_peace(number):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        with pytest.raises(Stop, match=number.name):
            signal.raise_signal(number)
        signal.raise_signal(number)  # during the tidying up: nothing is raised
        assert signals.requested
    assert signal.getsignal(number) is before


def test_stop_is_not_swallowed_by_a_runner_that_catches_exceptions():
    assert not issubclass(Stop, Exception)


def beats_until(store, run, told, **options):
    with Heartbeat(store, run, 1, on_stop=told.set, every_s=0.05, **options):
        return told.wait(5)


def test_the_heart_beats_and_hears_a_request_to_stop(store, run):
    happen(store, run, "start")
    told = threading.Event()
    with Heartbeat(store, run, 1, on_stop=told.set, every_s=0.05):
        time.sleep(0.3)
        assert not told.is_set()
        assert store.exists("runs/r1/heartbeat.json")
        update_run(store, run, stop_requested=True)
        assert told.wait(5)


def test_the_heart_hears_that_a_later_attempt_has_taken_over(store, run):
    running = happen(store, run, "start")
    next_attempt(store, running, Judgement("lost"), Where())
    assert beats_until(store, run, threading.Event())


def test_a_store_that_is_away_for_a_while_does_not_end_the_run(store, run, monkeypatch, capsys):
    def away(*arguments, **options):
        raise ConflictError("the store is away")

    happen(store, run, "start")
    monkeypatch.setattr(type(store), "write", away)
    with Heartbeat(store, run, 1, on_stop=lambda: None, every_s=0.05):
        time.sleep(0.2)
    assert "heartbeat: the store is away" in capsys.readouterr().err


def test_a_log_lies_in_the_stores_own_folder_and_is_copied_to_any_other_store(store, tmp_path, s3_environment):
    inside = log_path(store, "r1", tmp_path / "home")
    assert inside == store.root / "runs/r1/driver.log"
    remote = open_store(s3_environment.uri())
    path = log_path(remote, "r1", tmp_path / "home")
    path.parent.mkdir(parents=True)
    path.write_text("first attempt\n")
    keep_log(remote, "r1", path)
    assert remote.read("runs/r1/driver.log") == b"first attempt\n"
    elsewhere = tmp_path / "elsewhere" / "driver.log"
    fetch_log(remote, "r1", elsewhere)
    assert elsewhere.read_text() == "first attempt\n"


def test_output_of_this_process_and_its_children_is_copied_to_the_log(tmp_path, capfd):
    log = tmp_path / "runs" / "driver.log"
    with copied_output(log):
        os.write(1, b"from C\n")
        os.system("echo from a child")
        os.write(2, b"to stderr\n")
    os.write(1, b"afterwards\n")
    assert log.read_text() == "from C\nfrom a child\nto stderr\n"
    seen = capfd.readouterr().out
    assert "from a child" in seen
    assert "afterwards" in seen


def test_the_progress_of_a_run_is_on_the_store_and_in_the_log(store, run):
    from rich.console import Console

    from cluster.progress import Progress

    out = io.StringIO()
    progress = Progress(console=Console(file=out, width=100), store=store, run_id=run)
    with progress.task("train", total=4, unit="steps") as task:
        task.advance(1)
        assert task.left_s is None  # one point is no rate
        task.advance(1, loss=0.12345)
        assert task.left_s is not None
        task.update(completed=4, rate="7/s")
    assert "train: 4/4 steps · loss 0.1235 · rate 7/s" in out.getvalue()
    from cluster.run_view import progress_lines, read_progress

    state = read_progress(store, run)
    assert state["tasks"][0]["completed"] == 4
    assert state["tasks"][0]["ended"] is True
    assert progress_lines(state)[0].startswith("train: 4/4 steps")
