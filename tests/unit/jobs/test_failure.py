"""Every decision after a failure, without a cluster: what it was, and what is done about it."""

import pytest

from jobs.failure import (
    Cause,
    Failure,
    GiveUp,
    Policy,
    Retry,
    RetryWith,
    Seen,
    Symptom,
    cause_of,
    classify,
    decide,
    hung,
    missing,
)

POLICY = Policy(max_restarts=3)


def failed(cause: Cause, committed: int = 0, message: str = "rank 1: it") -> Failure:
    return Failure(cause, message, 1, committed)


@pytest.mark.parametrize(
    ("symptom", "cause"),
    [
        (Symptom(0, "TrainingDivergedError", "the gradients have norm nan"), Cause.DIVERGED),
        (Symptom(0, "PreemptedError", "asked to stop"), Cause.PREEMPTED),
        (Symptom(0, "SettingError", "channels", ("ValueError",)), Cause.REFUSED),
        (Symptom(0, "DamagedDataError", "row group 3", ("StoreError", "UserError")), Cause.REFUSED),
        (Symptom(0, "StoreError", "503 for 300 s", ("UserError",)), Cause.STORE),
        (Symptom(0, "CheckpointError", "no room", ("UserError",)), Cause.REFUSED),
        (Symptom(0, "OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB"), Cause.OUT_OF_MEMORY),
        (Symptom(0, "RuntimeError", "DefaultCPUAllocator: can't allocate memory"), Cause.OUT_OF_MEMORY),
        (Symptom(0, "RuntimeError", "std::bad_alloc"), Cause.OUT_OF_MEMORY),
        (Symptom(0, "ActorDiedError", "the node was running low on memory", ("RayActorError",)), Cause.OUT_OF_MEMORY),
        (
            Symptom(
                0, "ActorDiedError", "The actor is dead because its node has died. Node Id: 7f", ("RayActorError",)
            ),
            Cause.NODE_LOST,
        ),
        (
            Symptom(0, "ActorDiedError", "its worker process has died. node_ip: 127.0.0.1", ("RayActorError",)),
            Cause.KILLED,
        ),
        (
            Symptom(0, "RuntimeError", "gloo/unbound_buffer.cc:81 Timed out waiting 5000ms for recv operation"),
            Cause.HUNG,
        ),
        (Symptom(0, "DistBackendError", "NCCL watchdog: collective operation timeout"), Cause.HUNG),
        (Symptom(1, "UnfinishedCheckpointError", "rank 0 is gone", ("CheckpointError", "UserError")), Cause.STORE),
        (Symptom(None, "WorkerGroupStartupTimeoutError", "timed out after 60 s", ("RayTrainError",)), Cause.NO_ROOM),
        (Symptom(None, "WorkerGroupStartupFailedError", "a worker died", ("RayTrainError",)), Cause.KILLED),
        (Symptom(0, "DistBackendError", "NCCL error: remote process exited or there was a network error"), Cause.ECHO),
        (Symptom(0, "AcceleratorError", "CUDA error: an illegal memory access; NCCL watchdog"), Cause.ERROR),
        (Symptom(0, "RuntimeError", "gloo/pair.cc:547 Connection closed by peer [127.0.0.1]:1"), Cause.ECHO),
        (Symptom(0, "KeyError", "'loss'"), Cause.ERROR),
    ],
)
def test_a_rank_says_what_happened_to_it(symptom: Symptom, cause: Cause) -> None:
    assert cause_of(symptom) is cause


def test_the_first_cause_counts_not_the_rank_that_lost_its_peer() -> None:
    echo = Symptom(0, "RuntimeError", "gloo: Connection closed by peer")
    failure = classify([echo, Symptom(1, "KeyError", "'loss'\nand more")], committed=40)
    assert failure == Failure(Cause.ERROR, "rank 1: KeyError: 'loss'", 1, 40)


def test_where_all_ranks_only_lost_a_peer_somebody_was_killed() -> None:
    failure = classify([Symptom(0, "RuntimeError", "gloo: Connection reset by peer")])
    assert failure.cause is Cause.KILLED
    assert failure.rank is None  # not the one that tells it
    assert failure.message == "a process of the run is gone (rank 0: RuntimeError: gloo: Connection reset by peer)"


def test_a_death_is_told_in_one_line() -> None:
    failure = classify([Symptom(1, "ActorDiedError", "The actor died.\n\tclass_name: X\n\tpid: 7", ("RayActorError",))])
    assert failure.message == "rank 1: its process died: killed, out of memory, or crashed in native code"
    leading = classify([Symptom(None, "ActorDiedError", "The actor died.")])
    assert leading.message.startswith("the process that leads the workers died")


@pytest.mark.parametrize("cause", [Cause.DIVERGED, Cause.REFUSED])
def test_what_would_come_again_is_not_tried_again(cause: Cause) -> None:
    assert decide([failed(cause)], POLICY) == GiveUp("rank 1: it")


@pytest.mark.parametrize("cause", [Cause.KILLED, Cause.NODE_LOST, Cause.HUNG, Cause.ERROR, Cause.OUT_OF_MEMORY])
def test_the_first_failure_is_answered_at_once(cause: Cause) -> None:
    assert decide([failed(cause)], POLICY) == Retry(0.0)


def test_pauses_grow_while_there_is_no_progress_and_the_budget_ends() -> None:
    pauses = []
    for number in range(1, 5):
        decision = decide([failed(Cause.KILLED)] * number, POLICY)
        pauses.append(decision.after_s if isinstance(decision, Retry) else decision)
    assert pauses[:3] == [0.0, 1.0, 2.0]
    assert pauses[3] == GiveUp("rank 1: it (after 3 restarts without a newer checkpoint)")
    patient = Policy(max_restarts=1000)
    assert decide([failed(Cause.KILLED)] * 100, patient) == Retry(60.0)


def test_a_newer_checkpoint_renews_the_budget() -> None:
    daily = [failed(Cause.NODE_LOST, committed=40 * day) for day in range(100)]
    assert decide(daily, POLICY) == Retry(0.0)
    assert isinstance(decide([*daily, *[daily[-1]] * 3], POLICY), GiveUp)


def test_no_restarts_means_none() -> None:
    assert decide([failed(Cause.KILLED)], Policy(max_restarts=0)) == GiveUp("rank 1: it")


@pytest.mark.parametrize("cause", [Cause.PREEMPTED, Cause.NO_ROOM])
def test_what_is_nobodys_fault_is_not_counted(cause: Cause) -> None:
    history = [failed(Cause.KILLED), *[failed(cause)] * 50]
    assert decide(history, Policy(max_restarts=0)) == Retry(0.0)
    assert decide([*history, failed(Cause.KILLED)], Policy(max_restarts=2)) == Retry(1.0)


def test_the_same_error_twice_without_progress_is_in_the_code() -> None:
    decision = decide([failed(Cause.ERROR)] * 2, POLICY)
    assert decision == GiveUp("rank 1: it (twice, at the same place)")
    assert decide([failed(Cause.ERROR), failed(Cause.ERROR, message="another")], POLICY) == Retry(1.0)
    assert decide([failed(Cause.ERROR), failed(Cause.ERROR, committed=40)], POLICY) == Retry(0.0)


def test_out_of_memory_is_told_with_three_knobs() -> None:
    decision = decide([failed(Cause.OUT_OF_MEMORY)], Policy(0, accumulate=2, micro_batch=4))
    assert isinstance(decision, GiveUp)
    for knob in ("strategy.accumulate=4", "strategy.recompute=true", "zero_stage", "bf16"):
        assert knob in decision.message


@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_no_knob_is_told_that_cannot_be_turned(micro_batch: int | None) -> None:
    decision = decide([failed(Cause.OUT_OF_MEMORY)], Policy(0, micro_batch=micro_batch))
    assert isinstance(decision, GiveUp)
    assert "accumulate" not in decision.message
    assert "a smaller data.batch" in decision.message


def test_micro_batches_are_halved_where_that_is_allowed_until_they_are_odd() -> None:
    allowed = Policy(3, halve_on_out_of_memory=True, accumulate=2, micro_batch=4)
    decision = decide([failed(Cause.OUT_OF_MEMORY)] * 9, allowed)
    assert isinstance(decision, RetryWith)
    assert decision.changes == {"strategy.accumulate": 4}
    assert "4; on with 2" in decision.why
    odd = Policy(3, halve_on_out_of_memory=True, accumulate=8, micro_batch=1)
    assert isinstance(decide([failed(Cause.OUT_OF_MEMORY)], odd), GiveUp)
    budget = Policy(3, halve_on_out_of_memory=True, micro_batch=None)
    assert decide([failed(Cause.OUT_OF_MEMORY)], budget) == Retry(0.0)


def test_a_store_that_was_down_longer_than_its_patience_is_given_a_pause() -> None:
    assert decide([failed(Cause.STORE)], POLICY) == Retry(15.0)


def test_a_rank_that_answers_no_more_is_the_one_that_is_missing() -> None:
    seen = (Seen(0, 120, 0.5, 600.0, "jobs/world.py:40"), Seen(1, 120, 601.0, 0.2, "", "pid 7 on 10.0.0.1"))
    assert missing(seen, 600.0) == [seen[1]]
    failure = hung(seen, 600.0, committed=100)
    assert failure.cause is Cause.HUNG
    assert failure.rank == 1
    assert failure.message == (
        "rank 1 has not arrived at step 120 within 600 s; last seen at step 120, 601 s ago; "
        "its process answers no more (pid 7 on 10.0.0.1)"
    )


def test_a_rank_that_is_behind_is_told_with_the_line_that_it_is_in() -> None:
    seen = (Seen(0, 120, 0.5, 600.0, "jobs/world.py:40"), Seen(1, 119, 0.4, 612.0, "jobs/data/reader.py:88"))
    assert hung(seen, 600.0).message == (
        "rank 1 has not arrived at step 120 within 600 s; last seen at step 119, 612 s ago; "
        "it is in jobs/data/reader.py:88"
    )


def test_ranks_that_wait_for_each_other_are_told_with_their_places() -> None:
    seen = (Seen(0, 7, 0.1, 60.0, "jobs/a.py:1"), Seen(1, 7, 0.1, 60.0, "jobs/b.py:2"))
    failure = hung(seen, 60.0)
    assert failure.rank is None
    assert "all 2 ranks wait for each other at step 7" in failure.message
    assert "rank 0: jobs/a.py:1; rank 1: jobs/b.py:2" in failure.message
