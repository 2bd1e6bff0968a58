"""Runs of kind prepare without Ray: resumed, pinned to what they began with, and what comes out of them."""

from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from rich.console import Console

from cluster.context import RunContext
from cluster.dataset.dataset import open_dataset
from cluster.dataset.publish import publish_table
from cluster.dataset.statistics import describe, measure, merge
from cluster.dataset.verify import verify_dataset
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.session import Session
from cluster.spec.complaints import Complaint, Surroundings
from cluster.stopping import Stop
from cluster.store import Store, open_store
from jobs.checks import prepare as checks
from jobs.ingest.columns import table_of
from jobs.ingest.schedule import in_turn
from jobs.ingest.structures import Structure, structure_columns
from jobs.prepare import group
from jobs.prepare.group import Done, Preparation, Work
from jobs.prepare.pairs import with_neighbours
from jobs.prepare.run import run
from jobs.spec.prepare import PrepareSpec

ROWS = 300  # row groups have 64 rows at least: 3 of training, 1 each of the others


def rows(seed: int = 0, energy: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(ROWS):
        size = int(rng.integers(2, 7))
        labels = {"energy": energy + float(rng.normal(0, 5)), "forces": rng.normal(0, 2, (size, 3))}
        made.append(Structure(np.full(size, 6), rng.normal(0, 3, (size, 3)), labels=labels))
    ids = pa.array([f"s{row:03d}" for row in range(ROWS)])
    table = table_of(ids, structure_columns(made), groups=[f"g{row // 3}" for row in range(ROWS)])
    splits = ["test" if row % 30 < 3 else "valid" if row % 30 < 6 else "train" for row in range(ROWS)]
    return table.set_column(table.column_names.index("split"), "split", pa.array(splits))


def published(store: Store, name: str = "carbon", **changes: Any) -> str:
    return publish_table(store, name, rows(**changes), kind="structures", provenance={}, rows_per_shard=70).manifest.ref


def spec(*steps: dict[str, Any], **changes: Any) -> PrepareSpec:
    data = {"kind": "prepare", "name": "prepared", "data": {"uri": "datasets/carbon@1"}, "steps": list(steps)}
    return PrepareSpec.model_validate({**data, **changes})


FILTER = {"name": "filter", "params": {"max_atoms": 5, "max_force": 6.0}}
NEAR = {"name": "neighbours", "params": {"cutoff": 4.0}}
FIGURES = {"name": "statistics"}


def context(store: Store, run: str = "r1", stop: Callable[[], bool] = lambda: False) -> RunContext:
    progress = Progress(console=Console(file=StringIO(), width=200), store=store, run_id=run)
    return RunContext(run, store, progress, Path(), False, stop, Session("", embedded=True))


class PowerCut(BaseException):
    """Nobody tidies up after it."""


def prepare(spec: PrepareSpec, context: RunContext, until: int | None = None) -> dict[str, Any]:
    """Run in this process; cut off after so many row groups."""

    def flow(work: Work, numbers: Sequence[int], workers: Any, keeps: bool, stop: Any) -> Iterator[Done]:
        preparation = Preparation(work)
        for done, number in enumerate(numbers):
            if done == until:
                raise PowerCut
            yield preparation.prepare(number)
            if stop():
                return

    return run(spec, context, flow, in_turn)


def test_rows_are_filtered_and_get_their_neighbours_and_keep_ids_groups_and_splits(store: Store) -> None:
    parent = open_dataset(published(store), store=store)
    outputs = prepare(spec(FILTER, NEAR), context(store))
    made = open_dataset(outputs["dataset"], store=store)
    whole, kept = parent.table(), made.table()
    wanted = [
        row["id"]
        for row in whole.to_pylist()
        if len(row["numbers"]) <= 5 and np.linalg.norm(np.reshape(row["forces"], (-1, 3)), axis=1).max() <= 6.0
    ]
    assert kept["id"].to_pylist() == wanted
    chosen = whole.take(pa.array([whole["id"].to_pylist().index(name) for name in wanted]))
    assert kept.drop_columns(["edges"]).equals(chosen)
    assert kept["edges"].to_pylist() == with_neighbours(chosen, 4.0)["edges"].to_pylist()
    assert sum(outputs["dropped"].values()) == ROWS - len(wanted)
    provenance = made.manifest.provenance
    assert provenance["parent"] == {"dataset": "carbon@1", "digest": parent.manifest.digest}
    assert provenance["dropped"] == outputs["dropped"]
    assert set(outputs["dropped"]) == {"0.filter.max_atoms", "0.filter.max_force"}
    assert [step["name"] for step in provenance["steps"]] == ["filter", "neighbours"]
    assert made.schema.field("edges").metadata[b"cutoff"] == b"4.0"
    assert verify_dataset(store, outputs["dataset"]) == []
    assert not store.list("runs/r1/parts")


def test_a_run_that_was_cut_off_does_no_row_group_twice_and_publishes_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_store(str(tmp_path / "other"))
    published(other)
    whole = prepare(spec(FILTER, NEAR), context(other))
    published(store)
    seen: list[int] = []
    monkeypatch.setattr(group, "stage", lambda *a, stage=group.stage: (seen.append(a[2]), stage(*a)))
    for until in (2, 1):
        with pytest.raises(PowerCut):
            prepare(spec(FILTER, NEAR), context(store), until)
    assert seen == [0, 1, 2]
    assert not store.list("datasets/prepared")
    again = prepare(spec(FILTER, NEAR), context(store))
    assert seen == list(range(len(open_dataset("carbon@1", store=store).groups())))
    assert again == whole
    one, two = (open_dataset(outputs["dataset"], store=s).manifest for outputs, s in ((again, store), (whole, other)))
    assert one.shards == two.shards


def test_a_run_goes_on_with_the_version_and_the_ids_that_it_began_with(store: Store, tmp_path: Path) -> None:
    published(store)
    (tmp_path / "ids.txt").write_text("s010\n")
    latest = spec({"name": "filter", "params": {"drop_ids": str(tmp_path / "ids.txt")}}, data={"uri": "carbon"})
    with pytest.raises(PowerCut):
        prepare(latest, context(store), 2)
    assert published(store, energy=1.0) == "carbon@2"
    (tmp_path / "ids.txt").write_text("s010\ns011\ns012\n")
    outputs = prepare(latest, context(store))
    assert outputs["dropped"] == {"0.filter.drop_ids": 1}
    provenance = open_dataset(outputs["dataset"], store=store).manifest.provenance
    assert provenance["parent"]["dataset"] == "carbon@1"
    assert provenance["steps"][0]["params"]["drop_ids"].endswith("ids.txt")
    assert prepare(latest, context(store, "r2"))["dropped"] == {"0.filter.drop_ids": 3}


def test_statistics_are_those_of_the_rows_that_come_out_and_nothing_is_published(store: Store) -> None:
    published(store)
    outputs = prepare(spec(FILTER, FIGURES), context(store))
    assert not store.list("datasets/prepared")
    kept = open_dataset(prepare(spec(FILTER), context(store, "r2"))["dataset"], store=store)
    assert outputs["splits"] == kept.manifest.splits
    parts = [(split, measure(kept.table(split), "structures")) for split in ("train", "valid", "test")]
    slow = describe(merge(parts), "structures")
    assert outputs["statistics"].keys() == slow.keys()
    for name, value in slow.items():
        found = outputs["statistics"][name]
        assert found == (pytest.approx(value) if isinstance(value, float) else value), name


def test_statistics_alone_are_those_of_the_manifest(store: Store) -> None:
    manifest = open_dataset(published(store), store=store).manifest
    with pytest.raises(PowerCut):
        prepare(spec(FIGURES), context(store), 2)
    outputs = prepare(spec(FIGURES), context(store))
    assert outputs["rows"] == ROWS
    assert outputs["statistics"]["atoms_by_species"] == manifest.statistics["atoms_by_species"]
    mean = manifest.statistics["energy_per_atom_mean_eV"]
    assert outputs["statistics"]["energy_per_atom_mean_eV"] == pytest.approx(mean)


def test_a_filter_that_leaves_nothing_is_an_error(store: Store) -> None:
    published(store)
    nothing = {"name": "filter", "params": {"min_atoms": 50}}
    with pytest.raises(UserError, match="no row is left: every one was dropped"):
        prepare(spec(nothing), context(store))
    with pytest.raises(UserError, match="no row is left to measure"):
        prepare(spec(nothing, FIGURES), context(store, "r2"))


def test_a_stop_keeps_what_is_finished(store: Store) -> None:
    published(store)
    staged = "runs/r1/parts"
    with pytest.raises(Stop):
        prepare(spec(NEAR), context(store, stop=lambda: len(store.list(staged)) > 3))
    assert 3 < len(store.list(staged)) < 2 * len(open_dataset("carbon@1", store=store).groups())
    assert prepare(spec(NEAR), context(store))["rows"] == ROWS


def test_the_same_steps_again_are_the_version_that_is_there(store: Store) -> None:
    published(store)
    first = prepare(spec(NEAR), context(store))
    assert prepare(spec(NEAR), context(store, "r2")) == first


def test_a_version_of_its_own_name_may_be_the_next_one(store: Store) -> None:
    published(store)
    assert prepare(spec(NEAR, **{"as": "carbon"}), context(store))["dataset"] == "carbon@2"


def checked(store: Store | None, *steps: dict[str, Any], **changes: Any) -> list[Complaint]:
    return checks.check(spec(*steps, **changes), Surroundings(store=store, capacity={"CPU": 2.0, "GPU": 0.0}))


def test_everything_that_is_wrong_with_the_steps_is_said_at_once(store: Store) -> None:
    published(store)
    found = checked(
        store,
        {"name": "filtr"},
        {"name": "neighbours", "params": {"cutof": 3}},
        {"name": "features", "params": {"model": "nobody"}},
        {"name": "filter", "params": {"drop_ids": "/no/such/file"}},
        {"name": "neighbours", "params": {"cutoff": 3}},
        workers={"gpus": 1},
    )
    told = {complaint.path: complaint.message for complaint in found}
    assert "did you mean 'filter'?" in told["steps", 0, "name"]
    assert "did you mean 'cutoff'?" in told["steps", 1, "params", "cutof"]
    assert "nobody" in told["steps", 2, "params"]
    assert "no file" in told["steps", 3, "params"]
    assert "no GPU" in told["workers", "gpus"]
    assert not [path for path in told if path[:2] == ("steps", 4)]


def test_a_step_that_does_not_fit_the_dataset_is_refused_before_and_in_a_run(store: Store) -> None:
    table = rows().drop_columns(["forces"])
    publish_table(store, "carbon", table, kind="structures", provenance={})
    (complaint,) = checked(store, FILTER)
    assert (complaint.path, "needs the column 'forces'" in complaint.message) == (("steps", 0), True)
    with pytest.raises(UserError, match="step 'filter' cannot be done with carbon@1"):
        prepare(spec(FILTER), context(store))
    (complaint,) = checked(store, NEAR, data={"uri": "karbon"})
    assert complaint.path == ("data", "uri")
    assert checked(None, FILTER, data={"uri": "karbon"}) == []


def test_nothing_follows_statistics() -> None:
    with pytest.raises(ValidationError, match="'statistics' publishes nothing"):
        spec(FIGURES, NEAR)
    assert not spec(FIGURES).publishes
