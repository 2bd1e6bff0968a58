"""A run that Kubernetes starts: made once, taken over when its cluster was lost, left alone when it has ended."""

from datetime import UTC, datetime, timedelta

import pytest

from cluster.errors import ConflictError
from cluster.kuberay.entry import main, prepare
from cluster.runs import RunError, Where, change_run, happen, key, load_run, update_run
from cluster.store import Store

SPEC = "spec_version: 1\nkind: label\nname: ethanol-xtb\n"
RUN = "label-ethanol-xtb-12345678"
HERE = Where(mode="cluster", submission_id="rayjob-1")


def go(store: Store, text: str = SPEC, **options: object) -> bool:
    return prepare(store, RUN, text, HERE, **options)  # type: ignore[arg-type]


def fall_silent(store: Store) -> None:
    """The driver was last heard of an hour ago, on a machine that is not this one."""
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    elsewhere = Where(mode="cluster", host="lost-head", pid=1)
    change_run(store, RUN, lambda record: record.model_copy(update={"started": hour_ago, "where": elsewhere}))


def test_the_first_start_makes_the_run(store: Store) -> None:
    assert go(store)
    record = load_run(store, RUN)
    assert (record.status, record.kind, record.name, record.attempt) == ("pending", "label", "ethanol-xtb", 1)
    assert record.where.submission_id == "rayjob-1"
    assert store.read(key(RUN, "spec.yaml")).decode() == SPEC


def test_a_maker_that_ended_before_its_driver_began_is_no_obstacle(store: Store) -> None:
    go(store)
    store.delete(key(RUN, "spec.yaml"))
    assert go(store)
    assert load_run(store, RUN).attempt == 1
    assert store.read(key(RUN, "spec.yaml")).decode() == SPEC


def test_a_run_whose_cluster_was_lost_goes_on_as_its_next_attempt(store: Store) -> None:
    go(store)
    happen(store, RUN, "start")
    fall_silent(store)
    assert go(store)
    record = load_run(store, RUN)
    assert (record.status, record.attempt) == ("pending", 2)


def test_a_driver_that_still_speaks_is_waited_for_and_not_doubled(store: Store) -> None:
    go(store)
    happen(store, RUN, "start")
    waits: list[float] = []
    with pytest.raises(ConflictError, match="still gives signs of life"):
        go(store, sleep=waits.append, patience_s=20.0)
    assert sum(waits) == 20.0
    assert load_run(store, RUN).attempt == 1


def test_a_driver_that_falls_silent_meanwhile_is_taken_over(store: Store) -> None:
    go(store)
    happen(store, RUN, "start")
    assert go(store, sleep=lambda seconds: fall_silent(store))
    assert load_run(store, RUN).attempt == 2


def test_a_pod_that_was_evicted_goes_on_and_a_run_stopped_by_a_person_does_not(store: Store) -> None:
    go(store)
    happen(store, RUN, "start")
    happen(store, RUN, "stop")  # SIGTERM, which nobody had asked for
    assert go(store)
    happen(store, RUN, "start")
    update_run(store, RUN, stop_requested=True)
    happen(store, RUN, "stop")
    assert not go(store)
    assert load_run(store, RUN).status == "stopped"


def test_a_run_that_has_succeeded_is_not_repeated(store: Store) -> None:
    go(store)
    happen(store, RUN, "start")
    happen(store, RUN, "succeed")
    assert not go(store)
    assert load_run(store, RUN).status == "succeeded"


def test_a_run_that_has_failed_by_itself_is_not_tried_again(store: Store) -> None:
    go(store)
    happen(store, RUN, "start")
    happen(store, RUN, "fail", error=RunError(message="no such dataset"))
    with pytest.raises(ConflictError, match="no such dataset") as refused:
        go(store)
    assert "another --id" in str(refused.value)
    assert load_run(store, RUN).status == "failed"


def test_an_id_of_another_spec_is_refused(store: Store) -> None:
    go(store)
    with pytest.raises(ConflictError, match="its spec is another one"):
        go(store, SPEC.replace("ethanol", "aspirin"))


def test_a_store_that_cannot_be_used_ends_with_2_and_one_line(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", "ftp://nowhere", "--run", RUN, "--spec", "none.yaml"]) == 2
    assert "Traceback" not in capsys.readouterr().err
