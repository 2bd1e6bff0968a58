"""The conformance checks: a folder passes them all, and each catches the store that it is about."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import StoreError
from cluster.store import Store
from cluster.store.doctor import CHECKS, Check, examine
from cluster.store.local import LocalStore


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_folder_keeps(check: Check, store: Store) -> None:
    check(store, "probes/one")


def test_an_examination_reports_every_check_and_leaves_nothing(store: Store) -> None:
    findings = list(examine(store))
    assert [finding.check for finding in findings] == list(CHECKS)
    assert all(finding.problem is None for finding in findings)
    assert store.list() == []


class IgnoresConditions(LocalStore):
    """Like some S3 servers: accepts every conditional write."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return super().write(key, data)


class ChecksThenWrites(LocalStore):
    """The obvious wrong way: look whether the condition holds, then write."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if if_absent and not self.exists(key):
            return super().write(key, data)
        if if_match is not None and self.exists(key) and self.read_tagged(key)[1] == if_match:
            return super().write(key, data)
        return super().write(key, data, if_absent=if_absent, if_match=if_match)


class ServesStaleReads(LocalStore):
    """Answers the first read of a key for ever."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.seen: dict[str, Any] = {}

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        return self.seen.setdefault(key, super().read_tagged(key))  # type: ignore[no-any-return]


class ListsByText(LocalStore):
    """Takes a prefix for text, as S3 does without the slash."""

    def list(self, prefix: str = "") -> Any:
        return [key for key in super().list() if key.startswith(prefix)]


class DropsParts(LocalStore):
    """Loses the end of large files."""

    def upload_file(self, path: Path, key: str) -> None:
        self.write(key, path.read_bytes()[: 8 << 20])


class ReadsRangesFromTheStart(LocalStore):
    """Serves every object to Arrow from another folder, as a cache that mixes files up does."""

    def arrow(self) -> Any:
        filesystem, _ = super().arrow()
        shadow = self.root.parent / "shadow"
        for key in self.list():
            path = shadow / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(key)[::-1])
        return filesystem, str(shadow)


class KeepsTheDeleted(LocalStore):
    """Accepts a deletion and does nothing."""

    def delete(self, key: str) -> None:
        return None


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (IgnoresConditions, ["the first creation wins", "a stale swap is refused"]),
        (ChecksThenWrites, ["one of many creations wins", "one of many swaps wins"]),
        (ServesStaleReads, ["what is written is read"]),
        (ListsByText, ["a prefix is a folder"]),
        (DropsParts, ["a folder travels both ways"]),
        (ReadsRangesFromTheStart, ["arrow reads ranges"]),
        (KeepsTheDeleted, ["what is deleted is gone"]),
    ],
)
def test_a_broken_store_is_caught(broken: Callable[[Path], Store], caught_by: list[str], tmp_path: Path) -> None:
    for name in caught_by:
        with pytest.raises(StoreError):
            CHECKS[name](broken(tmp_path / "store"), f"probes/{len(name)}")


def test_lost_changes_are_caught(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="changes are left"):
        CHECKS["no change is lost"](IgnoresConditions(tmp_path / "store"), "probes/one")


def test_a_store_that_ignores_conditions_is_not_called_writable(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="ignores conditional writes"):
        IgnoresConditions(tmp_path / "store").check_writable()
