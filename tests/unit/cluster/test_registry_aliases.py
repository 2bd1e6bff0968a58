"""Aliases: moved by compare-and-swap, with a history that a rollback follows."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.aliases import Aliases, load_aliases, move_alias, rollback
from cluster.errors import NotFoundError, StoreError, UserError
from cluster.registry import publish_model
from cluster.store import Store, open_store


@pytest.fixture
def model(store: Store, tmp_path: Path) -> Store:
    """A store with ethanol@1 to ethanol@4."""
    (tmp_path / "weights.safetensors").write_bytes(b"w")
    (tmp_path / "model.json").write_bytes(b"{}")
    (tmp_path / "folder").mkdir()
    for name in ("weights.safetensors", "model.json"):
        (tmp_path / name).rename(tmp_path / "folder" / name)
    for run in range(4):
        publish_model(store, "ethanol", tmp_path / "folder", {"run": f"r{run}"})
    return store


def to(store: Store, version: int) -> Aliases:
    return move_alias(store, "ethanol", "prod", version, who="me", why=f"version {version}")


def test_a_move_is_written_down(model: Store) -> None:
    to(model, 1)
    aliases = to(model, 3)
    assert aliases == load_aliases(model, "ethanol")
    assert aliases.aliases == {"prod": 3}
    assert [(move.version, move.previous, move.who, move.why) for move in aliases.history] == [
        (1, None, "me", "version 1"),
        (3, 1, "me", "version 3"),
    ]


def test_a_move_to_where_it_is_changes_nothing(model: Store) -> None:
    assert to(model, 1) == to(model, 1)


def test_going_back_twice_leads_two_moves_back(model: Store) -> None:
    for version in (1, 2, 3):
        to(model, version)
    found = [rollback(model, "ethanol", "prod", who="me").aliases["prod"] for _ in range(2)]
    assert found == [2, 1]
    with pytest.raises(UserError, match="has never pointed at another version"):
        rollback(model, "ethanol", "prod", who="me")


def test_after_going_back_a_move_goes_on_from_there(model: Store) -> None:
    for version in (1, 2):
        to(model, version)
    rollback(model, "ethanol", "prod", who="me")
    to(model, 4)
    aliases = rollback(model, "ethanol", "prod", who="me", why="version 4 is worse")
    assert aliases.aliases["prod"] == 1
    assert (aliases.history[-1].why, aliases.history[-1].rollback) == ("version 4 is worse", True)


def test_aliases_do_not_mix(model: Store) -> None:
    to(model, 1)
    move_alias(model, "ethanol", "staging", 2, who="me", why="")
    to(model, 3)
    assert rollback(model, "ethanol", "prod", who="me").aliases == {"prod": 1, "staging": 2}


def test_moves_at_a_time_are_all_in_the_history(model: Store) -> None:
    names = [f"alias-{number}" for number in range(8)]
    start = threading.Barrier(8)

    def run(name: str) -> None:
        start.wait()
        move_alias(open_store(model.uri), "ethanol", name, 1, who=name, why="race")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, names))
    aliases = load_aliases(model, "ethanol")
    assert aliases.aliases == dict.fromkeys(names, 1)
    assert sorted(move.who for move in aliases.history) == names


def test_an_alias_points_only_at_what_exists(model: Store) -> None:
    with pytest.raises(NotFoundError, match=r"no version 9\n.*its versions: 1, 2, 3, 4"):
        to(model, 9)
    with pytest.raises(NotFoundError, match="no model 'etanol'; did you mean 'ethanol'"):
        move_alias(model, "etanol", "prod", 1, who="me", why="")
    to(model, 1)
    with pytest.raises(NotFoundError, match="no alias 'prd'; did you mean"):
        rollback(model, "ethanol", "prd", who="me")


@pytest.mark.parametrize("alias", ["3", "", "a/b", "0"])
def test_a_number_or_a_path_is_no_alias(model: Store, alias: str) -> None:
    with pytest.raises(UserError, match="is no alias name"):
        move_alias(model, "ethanol", alias, 1, who="me", why="")


def test_damaged_aliases_are_an_error_that_names_the_file(model: Store) -> None:
    model.write("models/ethanol/aliases.json", b'{"aliases": {"prod": "x"}}')
    with pytest.raises(StoreError, match=r"models/ethanol/aliases\.json is damaged"):
        load_aliases(model, "ethanol")
