"""Preparation through Ray Data: filtered, with neighbours and a teacher's words, as tasks and as actors."""

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console

from cluster.aliases import move_alias
from cluster.context import RunContext
from cluster.dataset.dataset import open_dataset
from cluster.dataset.publish import publish_table
from cluster.dataset.verify import verify_dataset
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.registry import publish_model
from cluster.session import Session, open_session
from cluster.spec.load import load_spec
from cluster.store import Store, open_store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import save_model
from jobs.ingest.columns import table_of
from jobs.ingest.structures import Structure, structure_columns
from jobs.prepare.run import run
from jobs.spec.prepare import PrepareSpec

pytestmark = pytest.mark.integration

TINY = Path(__file__).parent / "tiny"
ROWS = 400


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with open_session(home=tmp_path_factory.mktemp("home"), cpus=2) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(str(tmp_path / "store"))
    rng = np.random.default_rng(0)
    made = []
    for _ in range(ROWS):
        size = int(rng.integers(2, 7))
        labels = {"energy": float(rng.normal(0, 5)), "forces": rng.normal(0, 15, (size, 3))}
        made.append(Structure(np.full(size, 6), rng.normal(0, 3, (size, 3)), labels=labels))
    table = table_of(pa.array([f"s{row:03d}" for row in range(ROWS)]), structure_columns(made), "train")
    publish_table(opened, "ethanol-tiny", table, kind="structures", provenance={}, rows_per_shard=70)
    return opened


def context(store: Store, session: Session, out: StringIO, run: str = "r1") -> RunContext:
    progress = Progress(console=Console(file=out, width=200), store=store, run_id=run)
    return RunContext(run, store, progress, Path(), False, lambda: False, session)


def test_the_tiny_spec_is_prepared_through_ray_data(
    store: Store, session: Session, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded: Any = load_spec(TINY / "prepare.yaml", store=store)
    outputs = run(loaded.spec, context(store, session, out := StringIO()))
    made, parent = (open_dataset(name, store=store) for name in ("ethanol-tiny-near", "ethanol-tiny"))
    strong = [np.linalg.norm(np.reshape(f, (-1, 3)), axis=1).max() > 30 for f in parent.table()["forces"].to_pylist()]
    assert outputs["dropped"] == {"0.filter.max_force": sum(strong)}
    assert made.table()["id"].to_pylist() == parent.table().filter(pa.array(~np.array(strong)))["id"].to_pylist()
    assert made.schema.field("edges").metadata[b"cutoff"] == b"4.0"
    assert verify_dataset(store, outputs["dataset"]) == []
    (bar,) = (task for task in json.loads(store.read("runs/r1/progress.json"))["tasks"] if task["title"] == "prepare")
    assert (bar["completed"], bar["unit"], bar["info"]) == (ROWS, "rows", {"dropped": sum(strong)})
    assert "prepare: 400/400 rows" in out.getvalue()
    told = capfd.readouterr()
    assert "Running Dataset" not in told.out + told.err, "Ray Data draws bars of its own"
    assert "Execution plan" not in told.out + told.err


@pytest.mark.slow
def test_a_model_is_loaded_by_actors_and_says_the_same_of_every_row(
    store: Store, session: Session, tmp_path: Path
) -> None:
    facts = {"species": [6], "reference_energies": [-8.0], "force_rms": 1.0, "mean_neighbours": 4.0}
    params = {"lmax": 1, "channels": 2, "layers": 1, "cutoff": 3.0}
    embedding = {"radial": {"name": "bessel", "params": {"number": 4}}}
    description = ModelDescription("gaunt_potential", params, embedding, facts)
    save_model(tmp_path / "model", assemble(description), description)
    publish_model(store, "teacher", tmp_path / "model", {"run": "r0"})
    move_alias(store, "teacher", "prod", 1, who="a test", why="it is the only one")
    data = {
        "kind": "prepare",
        "name": "taught",
        "data": {"uri": "datasets/ethanol-tiny@1"},
        "steps": [{"name": "features", "params": {"model": "teacher@prod", "batch": 50}}],
    }
    outputs = run(PrepareSpec.model_validate(data), context(store, session, StringIO()))
    made = open_dataset(outputs["dataset"], store=store)
    sizes = made.sizes()
    assert sizes is not None
    # Its last layer begins with zeros: all it knows is the energy of single atoms.
    np.testing.assert_allclose(made.table()["teacher_energy"].to_numpy(), -8.0 * sizes, rtol=1e-6)
    assert made.schema.field("teacher_forces").metadata[b"model"] == b"teacher@1"
    assert made.manifest.provenance["steps"][0]["params"]["model"] == "teacher@1"
    assert torch.get_default_dtype() == torch.float32


def test_what_a_step_cannot_do_comes_back_as_the_users_own_error(store: Store, session: Session) -> None:
    made = [Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, d]])) for d in (1.0, 0.0)]
    table = table_of(pa.array(["good", "bad"]), structure_columns(made), "train")
    publish_table(store, "wrong", table, kind="structures", provenance={})
    data = {"kind": "prepare", "name": "a", "data": {"uri": "wrong"}}
    spec = PrepareSpec.model_validate({**data, "steps": [{"name": "neighbours", "params": {"cutoff": 2}}]})
    with pytest.raises(UserError, match="structure 'bad' has no neighbour list") as raised:
        run(spec, context(store, session, StringIO()))
    assert "ray" not in str(raised.value)
    assert not store.list("datasets/a")
