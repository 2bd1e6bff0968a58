"""The demo, ended at any point and in any way, leaves no process, no temporary file and nothing half-written."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.dataset.read import list_datasets
from cluster.dataset.verify import verify_dataset
from cluster.registry import fetch_model, list_models
from cluster.runs import list_runs
from cluster.store import open_store

pytestmark = pytest.mark.timeout(1800)

HERE = Path(__file__).parent
TINY = HERE.parent / "integration" / "tiny"
SCRIPT = HERE / "tiny_demo.py"
GONE_S = 20.0  # on a free machine
STAGE_S = 180.0  # until a stage of a tiny demo begins
KEYS = {"dataset", "run", "model", "endpoint", "metrics", "seconds"}

# Longer than the test, so that the signal meets the stage at work.
LENGTHENED = {
    "label": ("label.yaml", "frames: 8", "frames: 4000"),
    "sweep": ("sweep.yaml", "schedule.steps: 4", "schedule.steps: 100000"),
    "train": ("train.yaml", "steps: 12", "steps: 100000"),
}


@dataclass(frozen=True)
class Interruption:
    """A signal, to the process or to its group, so many seconds after a line of output."""

    after: str
    number: signal.Signals
    to_group: bool = False
    delay_s: float = 0.0

    @property
    def stage(self) -> str:
        """The step of the demo that is interrupted."""
        return next((name for name in LENGTHENED if self.after.startswith(name) or name in self.after), "")

    @property
    def in_good_order(self) -> bool:
        """Whether the process hears of it."""
        return self.number != signal.SIGKILL


INTERRUPTIONS = [
    Interruption("1/7 cluster", signal.SIGINT, to_group=True, delay_s=1.0),
    Interruption("1/7 cluster", signal.SIGKILL, delay_s=3.0),
    Interruption("label: ", signal.SIGTERM),
    Interruption("label: ", signal.SIGKILL, to_group=True),
    Interruption("3/7 sweep", signal.SIGINT, to_group=True, delay_s=8.0),
    Interruption("3/7 sweep", signal.SIGKILL, delay_s=8.0),
    Interruption("train: ", signal.SIGINT),
    Interruption("6/7 deploy", signal.SIGINT, delay_s=3.0),
    Interruption("6/7 deploy", signal.SIGKILL, to_group=True, delay_s=3.0),
]


def named(case: Interruption) -> str:
    return f"{case.number.name}{' to the group' if case.to_group else ''} at {case.after.strip()}"


def specs(folder: Path, stage: str = "") -> Path:
    """The tiny specs, with one stage made long."""
    shutil.copytree(TINY, folder)
    if stage:
        name, short, long = LENGTHENED[stage]
        text = (folder / name).read_text()
        assert short in text
        (folder / name).write_text(text.replace(short, long))
    return folder


def command(specs: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), str(specs), ".equi/store", *options]


def equi(folder: Path, *words: str) -> str:
    program = "from cluster.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def wait_for_run(folder: Path, kind: str, seconds: float) -> None:
    """Until a run of this kind is under way in the folder's store."""
    store, deadline = open_store(str(folder / ".equi" / "store")), time.monotonic() + seconds
    while not any(run.kind == kind and run.status == "running" for run in list_runs(store)):
        assert time.monotonic() < deadline, f"no {kind} has begun"
        time.sleep(0.1)


def assert_whole(folder: Path) -> None:
    """Everything that the store shows is complete, and so is the summary if there is one."""
    store = open_store(str(folder / ".equi" / "store"))
    for dataset in list_datasets(store):
        assert verify_dataset(store, dataset.ref) == []
    for model in list_models(store):
        fetched = folder / f"fetched-{model.name}-{model.version}"
        assert fetch_model(store, str(model.ref), fetched).files
        shutil.rmtree(fetched)
    for key in store.list():
        if key.endswith(".json") and "/ray/" not in key:  # Ray calls pickles .json
            json.loads(store.read(key))
    with contextlib.suppress(FileNotFoundError):
        assert set(json.loads((folder / ".equi" / "demo" / "summary.json").read_text())) >= KEYS


def empty_within(folder: Path, seconds: float) -> list[Path]:
    deadline = time.monotonic() + seconds
    while (left := list(folder.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.mark.parametrize("case", INTERRUPTIONS, ids=named)
def test_nothing_is_left_and_nothing_is_half_written(
    case: Interruption, start: Any, stretch: float, tmp_path: Path
) -> None:
    with start(command(specs(tmp_path / "specs", case.stage)), tmp_path) as demo:
        demo.wait_for(case.after, STAGE_S * stretch)
        if case.stage:
            wait_for_run(tmp_path, case.stage, STAGE_S * stretch)
        time.sleep(case.delay_s)
        assert demo.process.poll() is None, demo.output
        demo.send(case.number, to_group=case.to_group)
        assert demo.left_after(GONE_S * stretch) == {}
        assert empty_within(demo.temporary, 5.0) == []
        assert demo.exit_code(5) == (130 if case.in_good_order else -signal.SIGKILL), demo.output
        assert "Traceback" not in demo.output
    assert not (tmp_path / ".equi" / "demo" / "summary.json").exists()
    assert_whole(tmp_path)
    ended = [(run["kind"], run["status"]) for run in json.loads(equi(tmp_path, "runs", "--json"))]
    if ended:  # the newest comes first
        assert ended[0][1] == ("stopped" if case.in_good_order else "lost")
        assert {status for _, status in ended[1:]} <= {"succeeded"}
    else:
        assert "cluster" in case.after


def test_a_demo_after_a_killed_one_goes_the_whole_way_in_the_same_store(
    start: Any, stretch: float, tmp_path: Path
) -> None:
    with start(command(specs(tmp_path / "long", "train")), tmp_path) as killed:
        killed.wait_for("train: ", STAGE_S * stretch)
        killed.send(signal.SIGKILL)
        assert killed.left_after(GONE_S * stretch) == {}
        assert empty_within(killed.temporary, 5.0) == []
    assert not (tmp_path / ".equi" / "demo" / "summary.json").exists()
    assert_whole(tmp_path)
    with start(command(specs(tmp_path / "short")), tmp_path) as demo:
        assert demo.exit_code(2 * STAGE_S * stretch) == 0, demo.output
        assert demo.left_after(GONE_S * stretch) == {}
        assert empty_within(demo.temporary, 5.0) == []
    assert_whole(tmp_path)
    summary = json.loads((tmp_path / ".equi" / "demo" / "summary.json").read_text())
    assert (summary["dataset"], summary["model"]) == ("ethanol-tiny@1", "tiny@1")
    ended = [run["status"] for run in json.loads(equi(tmp_path, "runs", "--json"))]
    assert sorted(ended) == ["lost"] + ["succeeded"] * 7


def test_a_killed_make_takes_the_demo_along(start: Any, stretch: float, tmp_path: Path) -> None:
    words = " ".join(command(specs(tmp_path / "specs", "label")))
    (tmp_path / "Makefile").write_text(f"demo:\n\t@exec {words}\n")
    with start(["make", "demo"], tmp_path) as make:
        make.wait_for("label: ", STAGE_S * stretch)
        make.send(signal.SIGKILL)
        assert make.left_after(GONE_S * stretch) == {}
        assert empty_within(make.temporary, 5.0) == []
    assert [run["status"] for run in json.loads(equi(tmp_path, "runs", "--json"))] == ["stopped"]


def test_what_is_left_would_be_noticed(start: Any, tmp_path: Path) -> None:
    child = "subprocess.Popen(['sleep', '60'], start_new_session=True)"
    program = f"import subprocess, time; {child}; print('up'); time.sleep(60)"
    with start([sys.executable, "-c", program], tmp_path) as running:
        running.wait_for("up", 30)
        running.send(signal.SIGKILL)
        left = running.left_after(1.0)
        assert list(left.values()) == ["sleep 60"]
        (running.temporary / "x").touch()
        assert empty_within(running.temporary, 0.2) == [running.temporary / "x"]
