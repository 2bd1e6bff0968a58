"""`equi store doctor`: what it prints, what it prints for programs, and how it ends."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import cluster.commands.store as command
from cluster.errors import StoreError
from cluster.store import checks_of_objects, open_store
from cluster.store.doctor import CHECKS
from cluster.store.local import LocalStore


@pytest.fixture(autouse=True)
def short_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_of_objects, "MANY", 60)


class Overwrites(LocalStore):
    """Ignores If-None-Match."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return super().write(key, data, if_match=if_match)


def test_every_check_is_a_line_and_a_good_store_ends_with_zero(equi, tmp_path: Path) -> None:
    code, out, err = equi("store", "doctor", str(tmp_path / "store"))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{(tmp_path / 'store').as_uri()}: {len(CHECKS)} checks"
    assert [name for name in CHECKS if not any(line.startswith(f"  kept   {name} ") for line in lines)] == []
    assert lines[-1] == "The store keeps all that it must."


def test_the_argument_comes_before_the_option_and_the_environment(equi, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EQUI_STORE", "gs://nowhere")
    assert "no store is called gs://" in equi("store", "doctor")[2]
    assert equi("store", "doctor", "--store", str(tmp_path / "one"))[0] == 0
    code, out, _ = equi("store", "doctor", str(tmp_path / "two"), "--store", "gs://nowhere")
    assert (code, out.partition(":")[0]) == (0, "file")


def test_what_a_store_cannot_do_is_said_with_what_that_breaks(equi, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(command, "open_store", lambda uri: Overwrites(tmp_path))
    code, out, _ = equi("store", "doctor")
    assert code == 2
    assert "  FAILS  the first creation wins " in out
    assert "\n         it ignores If-None-Match on what exists\n" in out
    assert "\n         so publishing again could overwrite a dataset or a model that exists\n" in out
    assert out.splitlines()[-1] == "2 of 18 checks failed: do not use this store."


def test_json_is_alone_on_standard_output(equi, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(command, "open_store", lambda uri: Overwrites(tmp_path))
    code, out, err = equi("store", "doctor", "--json")
    findings = {finding["check"]: finding for finding in json.loads(out)}
    assert code == 2
    assert list(findings) == list(CHECKS)
    assert {name for name, finding in findings.items() if finding["problem"]} == {
        "the first creation wins",
        "one of many creations wins",
    }
    assert findings["the first creation wins"]["breaks"]
    assert "FAILS  the first creation wins" in err


def test_old_unfinished_uploads_are_removed_and_named(equi, tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert isinstance(store, LocalStore)
    old = [store.begin("x", b"1") for _ in range(7)]
    store.begin("y", b"2")
    yesterday = (datetime.now(UTC) - timedelta(hours=25)).timestamp()
    for upload in old:
        os.utime(store.root / ".store" / "parts" / upload.mark, (yesterday, yesterday))
    out = equi("store", "doctor", str(tmp_path))[1]
    assert "  removed what was left of uploads begun more than a day ago: " in out
    assert out.count(", ") >= 4
    assert " and 2 more\n" in out
    assert "left alone since somebody may be at work: 1\n" in out
    assert len(store.unfinished()) == 1


def test_uploads_that_cannot_be_listed_do_not_hide_the_verdict(equi, tmp_path: Path, monkeypatch) -> None:
    class Hides(LocalStore):
        def unfinished(self) -> Any:
            raise StoreError("listing is not allowed")

    monkeypatch.setattr(command, "open_store", lambda uri: Hides(tmp_path))
    code, out, _ = equi("store", "doctor")
    assert code == 2
    assert "  unfinished uploads cannot be looked for: listing is not allowed\n" in out
    assert "1 of 18 checks failed" in out
