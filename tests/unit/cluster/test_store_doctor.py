"""The conformance checks: a folder passes them all, and each catches the store that it is about, and no other."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import PreconditionFailedError, StoreError, UserError
from cluster.store import Store, checks_of_objects
from cluster.store.checking import Check
from cluster.store.doctor import CHECKS, examine
from cluster.store.interface import Unfinished
from cluster.store.local import LocalStore


@pytest.fixture
def short_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 keys instead of 1,200, since every one is synced to the disk."""
    monkeypatch.setattr(checks_of_objects, "MANY", 60)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_folder_keeps(check: Check, store: Store) -> None:
    check(store, "probes/one")


def test_an_examination_reports_every_check_and_leaves_nothing(store: Store, short_listings: None) -> None:
    findings = list(examine(store))
    assert [finding.check for finding in findings] == list(CHECKS)
    assert all(finding.problem is None and finding.breaks is None for finding in findings)
    assert [finding.check for finding in findings if finding.note] == ["a wrong secret is refused"]
    assert store.list() == []
    assert store.unfinished() == []


class ServesStaleReads(LocalStore):
    """After an object was overwritten, the first reading still gives the old one."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.old: dict[str, bytes] = {}

    def write(self, key: str, data: bytes, **conditions: Any) -> str:
        before = super().read(key) if super().exists(key) else None
        etag = super().write(key, data, **conditions)
        if before is not None:
            self.old[key] = before
        return etag

    def read(self, key: str) -> bytes:
        return self.old.pop(key) if key in self.old else super().read(key)


class KeepsTheDeleted(LocalStore):
    """Accepts a deletion and does nothing."""

    def delete(self, key: str) -> None:
        return None


class ListsTheDeleted(LocalStore):
    """Its listings lag behind: what was deleted last is still in them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.last = ""

    def delete(self, key: str) -> None:
        super().delete(key)
        self.last = key

    def list(self, prefix: str = "") -> Any:
        lagging = [self.last] if self.last.startswith(prefix) and self.last else []
        return sorted({*super().list(prefix), *lagging})


class IgnoresIfNoneMatch(LocalStore):
    """Like some S3 servers: creates what exists."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return super().write(key, data, if_match=if_match)


class IgnoresIfMatch(LocalStore):
    """Like some S3 servers: swaps whatever is there."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return super().write(key, data, if_absent=if_absent)


class ChecksThenWrites(LocalStore):
    """The obvious wrong way: look whether the condition holds, then write."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        found = self.read_tagged(key)[1] if self.exists(key) else None
        if (if_absent and found is not None) or (if_match is not None and found != if_match):
            raise PreconditionFailedError("no")
        time.sleep(0.02)
        return super().write(key, data)


class RefusesEverySwap(LocalStore):
    """Knows If-None-Match and takes If-Match for a mistake."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if if_match is not None:
            raise StoreError("not implemented")
        return super().write(key, data, if_absent=if_absent)


class ListsByText(LocalStore):
    """Takes a prefix for text, as S3 does without the slash."""

    def list(self, prefix: str = "") -> Any:
        return [key for key in super().list() if key.startswith(prefix)]


class ListsOnePage(LocalStore):
    """Ends a listing after its first page."""

    def list(self, prefix: str = "") -> Any:
        return super().list(prefix)[:50]


class MixesLongRanges(LocalStore):
    """Serves what is a block further on where a range is long."""

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        data = super().read_range(key, offset, length)
        return data if offset < 0 or length < 65536 else data[1:] + data[:1]


class TakesTheEndForTheBeginning(LocalStore):
    """Knows no ranges that count from the end."""

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return super().read_range(key, max(offset, 0), length)


class GivesWhatThereIs(LocalStore):
    """Answers a range that is too long with a shorter one."""

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        data = self.read(key)
        start = offset if offset >= 0 else max(0, len(data) + offset)
        return data[start : start + length]


class ReadsRangesFromTheEnd(LocalStore):
    """Serves every object to Arrow from another folder, as a cache that mixes files up does."""

    def arrow(self) -> Any:
        filesystem, _ = super().arrow()
        shadow = self.root.parent / "shadow"
        for key in self.list():
            path = shadow / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(key)[::-1])
        return filesystem, str(shadow)


class LosesEmptyFiles(LocalStore):
    """Takes a file without content for nothing."""

    def upload_file(self, path: Path, key: str) -> None:
        if path.stat().st_size:
            super().upload_file(path, key)


class DropsParts(LocalStore):
    """Loses the end of large files."""

    def upload_file(self, path: Path, key: str) -> None:
        self.write(key, path.read_bytes()[: 8 << 20])


class SwapsParts(LocalStore):
    """Puts the parts of large files together in the wrong order."""

    def upload_file(self, path: Path, key: str) -> None:
        data, part = path.read_bytes(), 8 << 20
        self.write(key, data[part : 2 * part] + data[:part] + data[2 * part :] if len(data) > part else data)


class HidesUnfinishedUploads(LocalStore):
    def unfinished(self) -> Any:
        return []


class KeepsAbortedUploads(LocalStore):
    def abandon(self, upload: Unfinished) -> None:
        return None


class ShowsUnfinishedUploads(LocalStore):
    def begin(self, key: str, data: bytes) -> Unfinished:
        self.write(key, data)
        return super().begin(key, data)


BROKEN: list[tuple[Callable[[Path], Store], set[str]]] = [
    (ServesStaleReads, {"what is written is read", "one of many swaps wins", "no change is lost"}),
    (
        KeepsTheDeleted,
        {"what is deleted is gone", "a folder is deleted whole and alone", "a stale swap is refused"},
    ),
    (ListsTheDeleted, {"what is deleted is gone", "a folder is deleted whole and alone"}),
    (IgnoresIfNoneMatch, {"the first creation wins", "one of many creations wins"}),
    (IgnoresIfMatch, {"a stale swap is refused", "one of many swaps wins", "no change is lost"}),
    (ChecksThenWrites, {"one of many creations wins", "one of many swaps wins", "no change is lost"}),
    (RefusesEverySwap, {"a stale swap is refused", "one of many swaps wins", "no change is lost"}),
    (ListsByText, {"a prefix is a folder", "a folder is deleted whole and alone"}),
    (ListsOnePage, {"a long listing is complete at once"}),
    (MixesLongRanges, {"ranges are read exactly"}),
    (TakesTheEndForTheBeginning, {"the end of an object is read"}),
    (GivesWhatThereIs, {"a range beyond the end is an error"}),
    (ReadsRangesFromTheEnd, {"arrow reads ranges"}),
    (LosesEmptyFiles, {"a folder travels both ways"}),
    (DropsParts, {"a large object keeps its digest"}),
    (SwapsParts, {"a large object keeps its digest"}),
    (HidesUnfinishedUploads, {"an unfinished upload is found and removed"}),
    (KeepsAbortedUploads, {"an unfinished upload is found and removed"}),
    (ShowsUnfinishedUploads, {"an unfinished upload is found and removed"}),
]


@pytest.mark.parametrize(("broken", "caught_by"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_a_broken_store_is_caught_by_its_checks_and_no_other(
    broken: Callable[[Path], Store], caught_by: set[str], tmp_path: Path, short_listings: None
) -> None:
    caught = {}
    for number, check in enumerate(CHECKS.values()):
        try:
            check(broken(tmp_path / f"store-{number}"), "probes/one")
        except UserError as error:
            caught[check.name] = str(error)
    assert caught.keys() == caught_by, caught


def test_every_check_that_can_fail_has_a_store_that_fails_it() -> None:
    assert set().union(*(caught_by for _, caught_by in BROKEN)) == CHECKS.keys() - {"a wrong secret is refused"}


def test_a_finding_says_what_the_store_cannot_do_and_what_that_breaks(tmp_path: Path) -> None:
    name = "the first creation wins"
    (finding,) = examine(IgnoresIfNoneMatch(tmp_path / "store"), {name: CHECKS[name]})
    assert finding.problem == "it ignores If-None-Match on what exists"
    assert finding.breaks == "publishing again could overwrite a dataset or a model that exists"


def test_an_answer_that_no_library_expects_does_not_end_the_examination(tmp_path: Path) -> None:
    class Babbles(LocalStore):
        def children(self, prefix: str = "") -> Any:
            raise KeyError("ETag")

    names = ["a prefix is a folder", "the first creation wins"]
    findings = list(examine(Babbles(tmp_path / "store"), {name: CHECKS[name] for name in names}))
    assert [finding.problem for finding in findings] == ["its answer is not understood (KeyError: 'ETag')", None]


def test_what_cannot_be_removed_afterwards_is_a_problem(tmp_path: Path) -> None:
    class Clings(LocalStore):
        def delete_folder(self, prefix: str) -> None:
            raise StoreError("deleting is not allowed")

    name = "the first creation wins"
    (finding,) = examine(Clings(tmp_path / "store"), {name: CHECKS[name]})
    assert finding.problem == "it does not let go of what was tried: deleting is not allowed"


def test_a_store_that_accepts_any_secret_gets_a_note(tmp_path: Path) -> None:
    class Trusts(LocalStore):
        def stranger(self) -> Store:
            return self

    class Refuses(LocalStore):
        def stranger(self) -> Store:
            class Closed(LocalStore):
                def read(self, key: str) -> bytes:
                    raise StoreError("the server refuses (SignatureDoesNotMatch)")

            return Closed(self.root)

    check = CHECKS["a wrong secret is refused"]
    assert "accepts any secret" in str(check(Trusts(tmp_path / "store"), "probes/one"))
    assert check(Refuses(tmp_path / "store"), "probes/one") is None


@pytest.mark.parametrize("broken", [IgnoresIfNoneMatch])
def test_a_store_that_ignores_conditions_is_not_called_writable(broken: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="ignores conditional writes"):
        broken(tmp_path / "store").check_writable()


def test_a_store_that_cannot_be_written_is_not_examined(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write to the store"):
        next(examine(LocalStore(tmp_path / "file")))
