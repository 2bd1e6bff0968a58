"""`equi data`, `equi models` and aliases: tables for people, JSON for programs, dry runs that do nothing."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import STRUCTURES
from cluster.registry import load_aliases, publish_model
from cluster.store import Store


@pytest.fixture
def water(store: Store) -> str:
    """A published dataset of two frames; its reference."""
    frame = {"numbers": [1, 8], "positions": [0.0] * 6, "energy": 1.0, "forces": [0.0] * 6}
    rows = [
        {**frame, "id": "0", "group": "a", "split": "train"},
        {**frame, "id": "1", "group": "b", "split": "test", "energy": 2.0},
    ]
    table = pa.Table.from_pylist(rows, schema=STRUCTURES)
    return publish_dataset(store, "water", table, kind="structures", provenance={"method": "made up"}).ref


@pytest.fixture
def ethanol(store: Store, tmp_path: Path) -> None:
    """Three versions of a model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    for number in range(3):
        (tmp_path / "model" / "weights.safetensors").write_bytes(bytes([number]))
        facts = {"task": "energy_forces", "run": f"train-{number}", "dataset": {"ref": "water@1", "digest": "d"}}
        publish_model(
            store, "ethanol", tmp_path / "model", {**facts, "metrics": {"valid/force_mae": 0.25 / (1 + number)}}
        )


def test_datasets_are_listed(equi, store: Store, water: str) -> None:
    code, out, _ = equi("data", "ls", "--store", store.uri)
    assert code == 0
    assert out.splitlines()[1].split()[:3] == ["water@1", "structures", "2"]
    (listed,) = json.loads(equi("data", "ls", "--store", store.uri, "--json")[1])
    assert (listed["name"], listed["version"], listed["splits"]) == ("water", 1, {"train": 1, "test": 1})


def test_the_store_is_taken_from_the_environment(equi, store: Store, water: str, monkeypatch) -> None:
    monkeypatch.setenv("EQUI_STORE", store.uri)
    assert "water@1" in equi("data", "ls")[1]


def test_an_empty_store_says_what_to_do_next(equi, store: Store) -> None:
    assert "equi data label SPEC" in equi("data", "ls", "--store", store.uri)[1]
    assert "train spec with `publish`" in equi("models", "--store", store.uri)[1]
    assert json.loads(equi("models", "--store", store.uri, "--json")[1]) == []


def test_a_dataset_is_shown_with_its_units(equi, store: Store, water: str) -> None:
    code, out, _ = equi("data", "show", "water", "--store", store.uri)
    assert code == 0
    assert "made up" in out
    assert "eV/angstrom" in out
    assert json.loads(equi("data", "show", "water@1", "--store", store.uri, "--json")[1])["rows"] == 2


def test_a_dataset_that_is_not_there_is_a_users_error_that_names_the_nearest(equi, store: Store, water: str) -> None:
    code, out, err = equi("data", "show", "watr@1", "--store", store.uri)
    assert (code, out) == (2, "")
    assert "did you mean 'water'?" in err


def test_an_intact_dataset_is_verified(equi, store: Store, water: str) -> None:
    assert equi("data", "verify", "water", "--store", store.uri)[:2] == (
        0,
        "Dataset water@1 is intact: files, rows and digest are those of its manifest.\n",
    )


def test_a_damaged_dataset_is_found_out(equi, store: Store, water: str) -> None:
    shard, *_ = [key for key in store.list("datasets/water/shards") if key.endswith(".parquet")]
    store.write(shard, store.read(shard)[:-1])
    code, out, err = equi("data", "verify", "water", "--store", store.uri)
    assert (code, out) == (2, "")
    assert "dataset water@1 is not what was published:" in err
    code, out, err = equi("data", "verify", "water", "--store", store.uri, "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["intact"] is False


def test_models_are_listed_with_the_aliases_that_point_at_them(equi, store: Store, ethanol: None) -> None:
    equi("promote", "ethanol@2", "--alias", "prod", "--store", store.uri)
    listed = json.loads(equi("models", "--store", store.uri, "--json")[1])
    assert [(m["model"], m["aliases"]) for m in listed] == [
        ("ethanol@1", []),
        ("ethanol@2", ["prod"]),
        ("ethanol@3", []),
    ]
    lines = equi("models", "--store", store.uri)[1].splitlines()
    assert lines[2].split()[:3] == ["ethanol@2", "prod", "energy_forces"]


def test_a_model_is_shown_by_version_alias_or_name(equi, store: Store, ethanol: None) -> None:
    equi("promote", "ethanol@2", "--alias", "prod", "--store", store.uri)
    for reference, model in {"ethanol@1": "ethanol@1", "ethanol@prod": "ethanol@2", "ethanol": "ethanol@3"}.items():
        assert equi("show", reference, "--store", store.uri)[1].splitlines()[0].split() == ["model", model]
    shown = json.loads(equi("show", "ethanol@prod", "--store", store.uri, "--json")[1])
    assert (shown["version"], shown["aliases"]) == (2, ["prod"])


def test_an_alias_is_moved_and_moved_back(equi, store: Store, ethanol: None) -> None:
    say = [
        equi("promote", "ethanol@1", "--alias", "prod", "--store", store.uri)[1],
        equi("promote", "ethanol", "--alias", "prod", "--store", store.uri)[1],
        equi("promote", "ethanol@3", "--alias", "prod", "--store", store.uri)[1],
        equi("rollback", "ethanol", "--alias", "prod", "--why", "worse", "--store", store.uri)[1],
    ]
    assert say == [
        "ethanol@prod is now version 1 (is new).\n",
        "ethanol@prod is now version 3 (was version 1).\n",
        "ethanol@prod is version 3 already; nothing changed.\n",
        "ethanol@prod is now version 1 (was version 3).\n",
    ]
    assert [(m.version, m.why) for m in load_aliases(store, "ethanol").history] == [
        (1, "promoted"),
        (3, "promoted"),
        (1, "worse"),
    ]


def test_a_dry_run_says_the_same_and_moves_nothing(equi, store: Store, ethanol: None) -> None:
    equi("promote", "ethanol@1", "--alias", "prod", "--store", store.uri)
    equi("promote", "ethanol@2", "--alias", "prod", "--store", store.uri)
    before = load_aliases(store, "ethanol")
    planned = equi("promote", "ethanol@3", "--alias", "prod", "--dry-run", "--json", "--store", store.uri)[1]
    assert json.loads(planned) == {"model": "ethanol", "alias": "prod", "before": 2, "after": 3, "dry_run": True}
    assert equi("rollback", "ethanol", "--alias", "prod", "--dry-run", "--store", store.uri)[1] == (
        "ethanol@prod would become version 1 (was version 2).\n"
    )
    assert load_aliases(store, "ethanol") == before


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    "arguments",
    [
        ("promote", "ethanol@9", "--alias", "prod"),
        ("promote", "methanol", "--alias", "prod"),
        ("promote", "ethanol@1", "--alias", "7"),
        ("promote", "ethanol@1", "--alias", "../x"),
        ("rollback", "ethanol", "--alias", "prod"),
        ("rollback", "ethanol", "--alias", "only-once"),
        ("rollback", "methanol", "--alias", "prod"),
    ],
)
def test_what_cannot_be_moved_is_refused_in_a_dry_run_too(
    equi, store: Store, ethanol: None, arguments, dry_run
) -> None:
    equi("promote", "ethanol@1", "--alias", "only-once", "--store", store.uri)
    code, out, err = equi(*arguments, *dry_run, "--store", store.uri)
    assert (code, out) == (2, "")
    assert err


def test_a_store_is_examined_promise_by_promise(equi, store: Store) -> None:
    code, out, _ = equi("store", "doctor", "--store", store.uri)
    assert code == 0
    assert "one of many swaps wins" in out
    assert all(
        finding["problem"] is None for finding in json.loads(equi("store", "doctor", "--store", store.uri, "--json")[1])
    )
