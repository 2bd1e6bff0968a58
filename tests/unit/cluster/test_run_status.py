"""Which event leads where, and when a silent run counts as lost."""

import itertools
from typing import get_args

import pytest

from cluster.run_status import ENDED, Event, Judgement, Status, StatusError, judge, next_status

STATUSES, EVENTS = get_args(Status), get_args(Event)


@pytest.mark.parametrize(
    ("events", "end"),
    [
        (["start", "succeed"], "succeeded"),
        (["start", "fail"], "failed"),
        (["start", "stop"], "stopped"),
        (["fail"], "failed"),  # the driver could not even be started
        (["stop"], "stopped"),
        (["lose"], "lost"),
        (["start", "fail", "resume", "start", "succeed"], "succeeded"),
        (["start", "lose", "succeed"], "succeeded"),  # it had only been cut off
    ],
)
def test_a_run_goes_from_pending_to_an_end(events, end):
    status = "pending"
    for event in events:
        status = next_status(status, event)
    assert status == end


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("running", "start"),
        ("succeeded", "resume"),
        ("running", "resume"),
        ("pending", "succeed"),
        ("stopped", "fail"),
        ("succeeded", "stop"),
    ],
)
def test_an_impossible_event_is_refused_with_what_would_be_possible(status, event):
    with pytest.raises(StatusError, match=status) as error:
        next_status(status, event)
    assert error.value.allowed


def test_a_run_that_succeeded_stays_so_whatever_happens():
    for event in EVENTS:
        with pytest.raises(StatusError):
            next_status("succeeded", event)


def test_only_a_resume_leads_back_from_an_end_that_is_certain():
    for status, event in itertools.product(ENDED - {"lost"}, set(EVENTS) - {"resume"}):
        with pytest.raises(StatusError):
            next_status(status, event)


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_run_without_heartbeat_for_a_minute_is_lost(status):
    assert judge(status, silent_s=59, pid_alive=None) == Judgement(status)
    assert judge(status, silent_s=61, pid_alive=None) == Judgement("lost", "no heartbeat for 61 s")


def test_a_run_whose_process_is_gone_is_lost_at_once():
    assert judge("running", silent_s=0, pid_alive=False).status == "lost"


def test_a_silent_run_whose_process_lives_is_not_lost_but_its_silence_is_told():
    verdict = judge("running", silent_s=300, pid_alive=True)
    assert (verdict.status, "300 s" in verdict.reason) == ("running", True)


@pytest.mark.parametrize("status", sorted(ENDED))
@pytest.mark.parametrize("alive", [True, False, None])
def test_an_ended_run_is_what_its_record_says(status, alive):
    assert judge(status, silent_s=1e6, pid_alive=alive) == Judgement(status)
