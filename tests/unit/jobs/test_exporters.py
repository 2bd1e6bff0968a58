"""Exporters: what TensorBoard, MLflow and W&B are told, and that training never notices when they fail."""

import struct
import sys
import types
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from cluster.errors import UserError
from cluster.store import Store, open_store
from jobs.checks import train as train_checks
from jobs.exporters import catalogue
from jobs.exporters.catalogue import missing, require, start
from jobs.exporters.exporter import About, flat
from jobs.exporters.feed import Feed
from jobs.recorder import Plan, StoreRecorder
from jobs.recording.events import read_events
from jobs.recording.history import read_history
from jobs.spec.train import TrainSpec

AT = datetime(2026, 1, 2, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {"step": 1, "attempt": 1, "time": AT, "loss": 2.0},
    {"step": 2, "attempt": 1, "time": AT, "loss": 1.0, "valid/loss": 1.5},
]

SPEC = {
    "spec_version": 1,
    "kind": "train",
    "name": "ethanol",
    "data": {"uri": "datasets/ethanol@1", "batch": {"structures": 8}},
    "model": {"name": "gaunt_potential"},
    "objective": {"name": "energy_force"},
}


@pytest.fixture
def about(tmp_path: Path) -> About:
    return About("r1", "ethanol", 3, open_store(str(tmp_path)), {"schedule": {"steps": 20}, "loggers": ["mlflow"]})


def scalars(data: bytes) -> list[tuple[int, str, float]]:
    """The events of a file: records of length, crc of the length, bytes, crc of the bytes."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        at += 16 + length
    return found


def test_tensorboard_finds_files_in_the_order_of_their_steps(about: About) -> None:
    exporter = start("tensorboard", about)
    exporter.steps(ROWS)
    exporter.steps([{"step": 3, "attempt": 3, "time": AT, "loss": 0.5}])
    exporter.end()
    keys = about.store.list("runs/r1/tensorboard")
    assert [key.rpartition("/")[2] for key in keys] == [f"events.out.tfevents.003-0000{n}" for n in (0, 1)]
    found = [scalars(about.store.read(key)) for key in keys]
    assert found == [[(1, "loss", 2.0), (2, "loss", 1.0), (2, "valid/loss", 1.5)], [(3, "loss", 0.5)]]


class FakeClient:
    """MLflow's client as far as we use it, with a server in this class."""

    experiments: list[str]
    runs: dict[str, dict[str, Any]]

    def get_experiment_by_name(self, name: str) -> Any:
        return types.SimpleNamespace(experiment_id=name) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments.append(name)
        return name

    def search_runs(self, experiments: list[str], text: str, max_results: int) -> list[Any]:
        tag = text.split("'")[1]
        return [run["object"] for run in self.runs.values() if run["tags"]["equimodels.run"] == tag][:max_results]

    def create_run(self, experiment: str, *, tags: dict[str, str], run_name: str) -> Any:
        made = types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"id-{len(self.runs)}"))
        self.runs[made.info.run_id] = {"object": made, "tags": tags, "name": run_name, "told": [], "params": []}
        return made

    def log_batch(self, run: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()) -> None:
        assert len(metrics) <= 1000
        self.runs[run]["told"] += metrics
        self.runs[run]["params"] += params

    def set_terminated(self, run: str, status: str) -> None:
        self.runs[run]["status"] = status


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    FakeClient.experiments, FakeClient.runs = [], {}
    entities = types.SimpleNamespace(Metric=lambda *told: told, Param=lambda *told: told)
    for name, module in {
        "mlflow": types.ModuleType("mlflow"),
        "mlflow.entities": entities,
        "mlflow.tracking": types.SimpleNamespace(MlflowClient=FakeClient),
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "jobs.exporters.mlflow", raising=False)
    return FakeClient


def test_mlflow_goes_on_in_the_same_run_after_a_restart(about: About, mlflow: type[FakeClient]) -> None:
    first = start("mlflow", about)
    first.steps(ROWS)
    again = start("mlflow", about)
    again.steps([{"step": n, "attempt": 4, "time": AT, "loss": 0.5} for n in range(1500)])
    again.end()
    (run,) = mlflow.runs.values()
    at = int(AT.timestamp() * 1000)
    assert run["told"][:3] == [("loss", 2.0, at, 1), ("loss", 1.0, at, 2), ("valid/loss", 1.5, at, 2)]
    assert len(run["told"]) == 1503
    assert run["params"] == [("schedule.steps", "20"), ("loggers", "['mlflow']")]
    assert (run["name"], run["status"], mlflow.experiments) == ("ethanol", "FINISHED", ["equimodels"])


def test_wandb_is_told_step_by_step(about: About, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    run = types.SimpleNamespace(
        log=lambda values, step: told.append((step, values)), finish=lambda: told.append("finished")
    )

    def init(**options: Any) -> Any:
        told.append((options["id"], options["resume"], options["config"]["schedule"]))
        return run

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "jobs.exporters.wandb", raising=False)
    exporter = start("wandb", about)
    exporter.steps(ROWS)
    exporter.end()
    assert told == [
        ("r1", "allow", {"steps": 20}),
        (1, {"loss": 2.0}),
        (2, {"loss": 1.0, "valid/loss": 1.5}),
        "finished",
    ]


class Broken:
    """Fails at its second stretch of steps."""

    def __init__(self, about: About) -> None:
        self.calls = 0

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.calls += 1
        if self.calls > 1:
            raise ConnectionError("no route to the server")

    def end(self) -> None:
        raise AssertionError("it was switched off")


class Kept:
    """Keeps what it is told."""

    def __init__(self, about: About) -> None:
        self.told: list[int] = []

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.told += [row["step"] for row in rows]

    def end(self) -> None:
        self.told.append(-1)


def test_one_that_fails_is_switched_off_once_and_the_others_go_on(about: About) -> None:
    failures, kept = [], Kept(about)

    def opened(name: str, about: About) -> Any:
        return Broken(about) if name == "mlflow" else kept

    feed = Feed(("mlflow", "wandb"), about, lambda name, why: failures.append((name, why)), opened)
    for _ in range(4):
        feed.steps(ROWS)
    feed.end()
    assert failures == [("mlflow", "ConnectionError: no route to the server")]
    assert kept.told == [1, 2] * 4 + [-1]


def test_a_recorder_feeds_exporters_and_survives_one_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "jobs.exporters.wandb", raising=False)
    store: Store = open_store(str(tmp_path))
    plan = Plan(loggers=("wandb", "tensorboard"), save_every=2)
    recorder = StoreRecorder(store, "r1", 1, 4, lambda values: None, plan)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for step in range(1, 5):
            recorder.progressed(step, {"loss": 1.0 / step})
        recorder.close()
    assert len([one for one in said if "logger wandb is switched off" in str(one.message)]) == 1
    assert len(read_history(store, "r1")) == 4
    assert [one.what for one in read_events(store, "r1")] == ["logger failed"]
    told = [scalar for key in store.list("runs/r1/tensorboard") for scalar in scalars(store.read(key))]
    assert [step for step, _, _ in told] == [1, 2, 3, 4]


def test_what_is_not_there_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None if name == "wandb" else object())
    assert list(missing(["tensorboard", "wandb"])) == ["wandb"]
    with pytest.raises(UserError, match=r"package wandb is not installed; pip install 'equimodels\[wandb\]'"):
        require(["wandb"])
    trained = TrainSpec.model_validate({**SPEC, "loggers": ["tensorboard", "wandb"]})
    (complaint,) = train_checks.loggers(trained)
    assert complaint.path == ("loggers", 1)
    assert "pip install 'equimodels[wandb]'" in complaint.message
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="logger mlflow needs MLFLOW_TRACKING_URI in the environment"):
        require(["mlflow"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    require(["mlflow", "tensorboard"])


def test_settings_are_flattened_to_pairs() -> None:
    assert flat({"a": {"b": 1, "c": {}}, "d": None}) == {"a.b": "1", "a.c": "{}", "d": "None"}
