"""What a user can put right, on the command line: exit code 2, where and what, no traceback, and nothing was done."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from cluster import cli, submission
from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import STRUCTURES, images_schema
from cluster.head import Head
from cluster.registry import move_alias, publish_model
from cluster.store import Store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import save_model

TRAIN = """\
spec_version: 1
kind: train
name: water
data: {uri: datasets/water@1, batch: {structures: 8}}
model: {name: gaunt_potential, params: {lmax: 1}}
embedding: {radial: {name: bessel, params: {number: 4}}}
objective: {name: energy_force}
schedule: {steps: 10}
resources: {workers: 2}
"""
ENDPOINT = """\
spec_version: 1
kind: endpoint
name: water
model: water@prod
task: energy_forces
"""
EVALUATE = """\
spec_version: 1
kind: evaluate
name: water
data: {uri: datasets/water@1, split: test}
model: water@prod
"""
INGEST = """\
spec_version: 1
kind: dataset
name: more-water
source: {name: extxyz, params: {file: frames.extxyz}}
"""
POTENTIAL = ModelDescription(
    name="gaunt_potential",
    params={"lmax": 0, "channels": 2, "layers": 1, "cutoff": 4.0},
    embedding={"radial": {"name": "bessel", "params": {"number": 4}}},
    facts={
        "species": [1, 8],
        "reference_energies": [-13.0, -2042.0],
        "force_rms": 1.0,
        "force_mean_abs": 0.7,
        "energy_rms_per_atom": 0.1,
        "mean_neighbours": 5.0,
    },
)


def water() -> pa.Table:
    rows = {
        "id": [f"w{i}" for i in range(4)],
        "numbers": [[8, 1, 1]] * 4,
        "positions": [[0.0, 0, 0.119, 0, 0.763, -0.477, 0, -0.763, -0.477 + i / 100] for i in range(4)],
        "energy": [-2068.0] * 4,
        "forces": [[0.0] * 9] * 4,
        "group": [f"g{i}" for i in range(4)],
        "split": ["train", "train", "valid", "test"],
    }
    return pa.table(rows, schema=STRUCTURES)


def squares() -> pa.Table:
    columns = {"id": list("abcd"), "pixels": [[0.0, 0.5, 1.0, 0.0]] * 4, "label": [0, 1, 0, 1], "group": list("abcd")}
    return pa.table({**columns, "split": ["train", "train", "valid", "test"]}, schema=images_schema((1, 2, 2)))


@pytest.fixture
def site(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with specs, and a store in `store` with a dataset of each kind and a model. Nothing may start there."""
    publish_dataset(store, "water", water(), kind="structures", statistics={}, provenance={"method": "test"})
    publish_dataset(store, "squares", squares(), kind="images", statistics={}, provenance={"method": "test"})
    torch.manual_seed(0)
    save_model(tmp_path / "model", assemble(POTENTIAL), POTENTIAL)
    ref = publish_model(store, "water", tmp_path / "model", {"run": "test"})
    move_alias(store, "water", "prod", ref.version, who="test", why="test")
    for name, text in (("train", TRAIN), ("endpoint", ENDPOINT), ("evaluate", EVALUATE), ("ingest", INGEST)):
        (tmp_path / f"{name}.yaml").write_text(text)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"something was started: {arguments}")

    monkeypatch.setattr(submission, "_spawn_detached", refuse)
    monkeypatch.setattr(Head, "submit", refuse)
    monkeypatch.chdir(tmp_path)
    for name in ("EQUI_STORE", "EQUI_ADDRESS", "EQUI_TOKEN_FILE", "EQUI_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def refused(site: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused; returns what the user reads."""

    def run(*words: str, uri: str = store.uri) -> str:
        before = {key: store.read(key) for key in store.list()}
        folder = {path for path in site.rglob("*") if store.root not in path.parents}
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--store", uri])
        out, err = capsys.readouterr()
        assert ended.value.code == 2, out + err
        assert "Traceback" not in out + err
        assert out == ""
        assert {key: store.read(key) for key in store.list()} == before
        assert {path for path in site.rglob("*") if store.root not in path.parents} == folder
        return err

    return run


@contextlib.contextmanager
def head(token: str) -> Iterator[str]:
    """As the head of a Ray cluster with token authentication answers; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            self.send_response(401 if given is None else 200 if given == f"Bearer {token}" else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_unknown_key_is_answered_with_the_nearest(refused: Any, site: Path) -> None:
    (site / "train.yaml").write_text(TRAIN.replace("steps: 10", "stepz: 10").replace("number: 4", "nmber: 4"))
    told = refused("submit", "train.yaml")
    assert "train.yaml:6:45  embedding.radial.params.nmber\n" in told
    assert "did you mean 'number'?" in told
    assert "train.yaml:8:12  schedule.stepz\n" in told
    assert "did you mean 'steps'?" in told
    assert told.endswith("2 problems. Nothing was submitted.\n")


def test_an_unknown_key_of_an_override_is_located_by_the_override(refused: Any) -> None:
    told = refused("submit", "train.yaml", "--set", "schedule.warmpu=3")
    assert "--set schedule.warmpu=3  schedule.warmpu\n" in told
    assert "did you mean 'warmup'?" in told


def test_a_wrong_type_is_told_with_what_was_found_and_what_is_allowed(refused: Any, site: Path) -> None:
    (site / "train.yaml").write_text(TRAIN.replace("steps: 10", "steps: many").replace("lmax: 1", "lmax: one"))
    told = refused("submit", "train.yaml")
    assert "train.yaml:8:12  schedule.steps\n  found text 'many'\n  allowed: a whole number" in told
    assert "train.yaml:5:41  model.params.lmax\n" in told
    assert "'one'" in told
    assert "2 problems." in told


def test_a_spec_that_is_not_there_is_named(refused: Any) -> None:
    assert "there is no file trian.yaml\n  did you mean train.yaml?" in refused("submit", "trian.yaml")
    assert "there is no file endpont.yaml" in refused("deploy", "endpont.yaml")


def test_a_file_that_a_spec_names_and_is_not_there_is_told_at_its_place(refused: Any) -> None:
    told = refused("submit", "ingest.yaml")
    assert "ingest.yaml:4:33  source.params.file\n" in told
    assert "frames.extxyz" in told
    assert "1 problem. Nothing was submitted." in told


def test_an_unknown_model_is_answered_with_the_nearest(refused: Any) -> None:
    told = refused("submit", "train.yaml", "--set", "model.name=gaunt_potentail")
    assert "unknown model 'gaunt_potentail'; did you mean 'gaunt_potential'?" in told
    assert "allowed: attention_potential, diffusion_transformer, gaunt_potential, invariant_potential" in told


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("watr@prod", "there is no model 'watr'; did you mean 'water'?"),
        ("water@staging", "has no alias 'staging'"),
        ("water@7", "has no version '7'"),
    ],
)
def test_a_model_reference_that_does_not_exist_is_told_by_every_command(
    refused: Any, reference: str, words: str
) -> None:
    assert words in refused("show", reference)
    told = refused("submit", "evaluate.yaml", "--set", f"model={reference}")
    assert f"--set model={reference}  model\n  " in told
    assert words in told
    assert words in refused("deploy", "endpoint.yaml", "--set", f"model={reference}")


def test_a_dataset_with_the_wrong_schema_is_told_with_what_is_missing(refused: Any, site: Path) -> None:
    (site / "train.yaml").write_text(TRAIN.replace("datasets/water@1", "datasets/squares"))
    told = refused("submit", "train.yaml")
    assert "train.yaml:4:8  data.uri\n" in told
    assert "holds images, not structures; missing columns: numbers, positions, energy, forces" in told


def test_a_dataset_that_does_not_exist_is_answered_with_the_nearest(refused: Any) -> None:
    assert "did you mean 'water'?" in refused("submit", "train.yaml", "--set", "data.uri=datasets/watre")
    assert "has no version 4" in refused("submit", "train.yaml", "--set", "data.uri=datasets/water@4")


def test_more_workers_than_the_cluster_can_ever_have_are_refused(refused: Any, site: Path) -> None:
    (site / "train.yaml").write_text(TRAIN.replace("workers: 2", "workers: 8"))
    told = refused("submit", "train.yaml", "--cpus", "2")
    assert "train.yaml:9:13  resources.workers\n" in told
    assert "8 workers of 1 CPU need 8 CPUs; the cluster has at most 2" in told
    told = refused("deploy", "endpoint.yaml", "--cpus", "2", "--set", "replicas={min: 64, max: 64}")
    assert "at most 2 CPU in all on this cluster" in told


def test_a_store_that_cannot_be_written_is_told_before_anything_starts(refused: Any, site: Path) -> None:
    (site / "file").write_text("in the way")
    told = refused("submit", "ingest.yaml", "--set", "source={name: digits}", uri=str(site / "file" / "store"))
    assert str(site / "file") in told
    assert "a file is in the way of the folder" in told
    told = refused("demo", uri=str(site / "file" / "store"))
    assert "a file is in the way of the folder" in told


def test_a_port_in_use_is_told_before_anything_starts(refused: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused("deploy", "endpoint.yaml", "--set", f"http.port={port}")
    assert f"port {port} on 127.0.0.1 is in use by another process; nothing was deployed" in told
    assert "a free port, or 0 for any" in told


def test_a_wrong_token_is_refused_and_no_token_is_shown(refused: Any, site: Path) -> None:
    file = site / "token"
    file.write_text("not-the-right-one")
    file.chmod(0o600)
    with head("the-right-one") as address:
        told = refused("submit", "train.yaml", "--address", address, "--token-file", str(file))
        assert f"the head at {address} refuses the token in {file}" in told
        assert "-right-one" not in told
        assert "wants a token" in refused("submit", "train.yaml", "--address", address)


def test_all_problems_come_at_once_in_the_order_of_the_file(refused: Any, site: Path) -> None:
    wrong = TRAIN.replace("gaunt_potential", "gaunt").replace("steps: 10", "steps: 0").replace("bessel", "besel")
    (site / "train.yaml").write_text(wrong.replace("water@1", "wine@1").replace("workers: 2", "workers: 4"))
    told = refused("submit", "train.yaml", "--cpus", "2")
    places = [line.split("  ")[0] for line in told.splitlines() if line.startswith("train.yaml:")]
    assert places == [f"train.yaml:{place}" for place in ("4:8", "5:9", "6:22", "8:12", "9:13")]
    assert told.endswith("\n5 problems. Nothing was submitted.\n")
