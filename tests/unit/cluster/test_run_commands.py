"""The commands around runs as a user calls them, without a driver: what they print, refuse and return."""

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta

import pytest

from cluster.cli import main
from cluster.errors import UserError
from cluster.front_door import KINDS
from cluster.run_status import Judgement
from cluster.run_view import took, why
from cluster.runs import RunError, create_run, happen, list_runs, load_run

SPEC = """\
spec_version: 1
kind: label
name: water
structures: {molecule: H2O}
sampling: {name: md, params: {temperature_K: 300, trajectories: 3, frames: 4}}
split: {by: trajectory, valid: 1, test: 1}
"""


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def equi(store, capsys):
    """The command line in this process, as its console script calls it."""

    def call(*words, store_uri=store.uri):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--store", store_uri])
        captured = capsys.readouterr()
        return Result(ended.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "label.yaml"
    path.write_text(SPEC)
    return path


def message(result):
    """What a user reads who did something wrong."""
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_dry_run_shows_the_resolved_spec_and_writes_nothing(equi, spec, store):
    result = equi("submit", str(spec), "--dry-run", "--set", "sampling.params.frames=7")
    assert result.exit_code == 0
    assert "frames: 7" in result.stdout
    assert "timestep_fs: 0.5" in result.stdout  # a default, written out
    assert "Nothing was submitted" in result.stdout
    assert not store.root.exists()


def test_a_dry_run_as_json_is_json(equi, spec):
    plan = json.loads(equi("submit", str(spec), "--dry-run", "--json").stdout)
    assert (plan["kind"], plan["spec"]["name"]) == ("label", "water")


def test_a_spec_that_is_wrong_is_not_submitted(equi, spec, store):
    spec.write_text(SPEC.replace("frames: 4", "framse: 4"))
    assert "did you mean 'frames'" in message(equi("submit", str(spec)))
    assert not store.root.exists()


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.runner is None])
def test_a_kind_that_is_no_job_is_sent_to_its_own_command(kind):
    from cluster.commands.runs import _refuse_what_does_not_run
    from cluster.spec.document import parse_document
    from cluster.spec.load import LoadedSpec

    with pytest.raises(UserError, match=r"equi (deploy|cluster render)"):
        _refuse_what_does_not_run(LoadedSpec(kind, None, parse_document("a: 1", "x")))


def test_an_id_that_is_taken_or_impossible_is_refused_before_anything_starts(equi, spec, store):
    create_run(store, kind="label", name="x", spec="", run_id="taken")
    assert "a run with the id taken exists already" in message(equi("submit", str(spec), "--id", "taken"))
    assert "cannot be a run id" in message(equi("submit", str(spec), "--id", "../taken"))
    assert len(list_runs(store)) == 1


def test_a_store_that_cannot_be_written_is_a_clear_error(equi, spec, tmp_path):
    (tmp_path / "file").write_text("")
    result = equi("submit", str(spec), store_uri=str(tmp_path / "file" / "store"))
    assert str(tmp_path / "file") in message(result)


def test_an_address_that_is_none_is_refused(equi, spec):
    assert "is no address of a Ray head" in message(equi("submit", str(spec), "--address", "localhost"))


def test_the_list_tells_how_each_run_ended_and_why(equi, store):
    create_run(store, kind="train", name="x", spec="", run_id="good")
    happen(store, "good", "start")
    happen(store, "good", "succeed", outputs={"model": "ethanol@1", "steps": 7})
    create_run(store, kind="train", name="x", spec="", run_id="bad")
    happen(store, "bad", "fail", error=RunError(message="loss is not a number", rank=1))
    out = equi("runs").stdout
    assert "rank 1: loss is not a number" in out
    assert "ethanol@1" in out
    listed = json.loads(equi("runs", "--json").stdout)
    assert [(run["id"], run["status"]) for run in listed] == [("bad", "failed"), ("good", "succeeded")]
    assert "no runs in" in equi("runs", store_uri=str(store.root / "elsewhere")).stdout


def test_the_status_of_a_failed_run_says_which_rank_what_and_where_the_log_is(equi, store):
    create_run(store, kind="train", name="x", spec="", run_id="bad")
    happen(store, "bad", "fail", error=RunError(message="loss is not a number", rank=1))
    out = equi("status", "bad").stdout
    assert "rank 1: loss is not a number" in out
    assert "runs/bad/driver.log" in out


def test_a_run_nobody_knows_is_refused_by_every_command(equi):
    for word in ("status", "logs", "stop", "resume"):
        result = equi(word, "nobody")
        assert "there is no run nobody" in message(result)


def test_a_run_that_has_ended_is_not_stopped_and_one_that_succeeded_is_not_resumed(equi, store):
    create_run(store, kind="train", name="x", spec="", run_id="good")
    happen(store, "good", "start")
    happen(store, "good", "succeed")
    assert "has ended already: succeeded" in message(equi("stop", "good"))
    assert "is succeeded and cannot be resumed" in message(equi("resume", "good"))


def test_stopping_a_run_whose_process_is_gone_ends_its_record(equi, store):
    from cluster.processes import this_process
    from cluster.runs import Where

    pid, _, host = this_process()
    gone = Where(pid=pid, pid_started="another boot:1", host=host)
    create_run(store, kind="train", name="x", spec="", run_id="r1", where=gone)
    assert equi("stop", "r1").exit_code == 0
    assert load_run(store, "r1").status == "stopped"


def test_a_log_is_read_from_the_store_when_the_cluster_is_gone(equi, store):
    create_run(store, kind="train", name="x", spec="", run_id="r1")
    happen(store, "r1", "fail")
    assert "has no log here" in message(equi("logs", "r1"))
    store.write("runs/r1/driver.log", b"the last words\n")
    assert equi("logs", "r1").stdout == "the last words\n"
    followed = equi("logs", "-f", "r1")
    assert (followed.stdout, followed.exit_code) == ("the last words\n", 1)  # the run has failed


def test_durations_and_reasons_are_said_as_people_say_them(store):
    record = create_run(store, kind="train", name="x", spec="", run_id="r1")
    assert took(record) == ""
    record = happen(store, "r1", "start")
    started = record.started
    assert took(record, started) == "0 s"
    for seconds, text in ((75, "1 min 15 s"), (3 * 3600 + 120, "3 h 02 min")):
        assert took(record, started + timedelta(seconds=seconds)) == text
    assert why(record, Judgement("lost", "no heartbeat for 61 s")) == "no heartbeat for 61 s"
    own = record.model_copy(update={"error": RunError(message="rank 1: boom", rank=1)})
    assert why(own, Judgement("failed")) == "rank 1: boom"


def test_listing_runs_imports_neither_ray_nor_torch():
    script = "import sys, cluster.commands.runs; print(sorted({'ray', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
