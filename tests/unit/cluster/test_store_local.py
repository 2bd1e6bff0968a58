"""The store in a folder: what only files can do wrong, and what a user is told."""

import errno
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store import Store, decode_json, encode_json, open_store, read_json, swap_json
from cluster.store.local import LocalStore


def in_processes(number: int, program: str, *arguments: str) -> list[str]:
    """What each of so many Python processes prints that all start `program` at once; argument 1 is its number."""
    wait = "import sys, cluster.store; sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.readline()\n"
    command = [sys.executable, "-c", wait + textwrap.dedent(program)]
    processes = [
        subprocess.Popen([*command, str(which), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for which in range(number)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * number
    return printed


def test_of_many_processes_one_creates(store: Store) -> None:
    program = """
        from cluster.errors import PreconditionFailedError
        store = cluster.store.open_store(sys.argv[2])
        won = []
        for race in range(20):
            try:
                store.write(f"race-{race}", f"writer {sys.argv[1]}".encode(), if_absent=True)
                won.append(race)
            except PreconditionFailedError:
                pass
        print(*won)
    """
    won = [[int(race) for race in line.split()] for line in in_processes(4, program, store.uri)]
    assert sorted(race for races in won for race in races) == list(range(20))
    for number, races in enumerate(won):
        assert all(store.read(f"race-{race}") == f"writer {number}".encode() for race in races)


def test_no_process_loses_a_change_of_another(store: Store) -> None:
    program = """
        import os, time
        move = os.replace
        os.replace = lambda *paths: (time.sleep(0.005), move(*paths))  # time to be overtaken, were there no lock
        store = cluster.store.open_store(sys.argv[2])
        for _ in range(10):
            cluster.store.swap_json(store, "count.json", lambda old: {"n": (old or {"n": 0})["n"] + 1}, attempts=200)
    """
    in_processes(4, program, store.uri)
    assert read_json(store, "count.json") == {"n": 40}


def test_a_writer_killed_halfway_leaves_nothing_to_see(store: LocalStore) -> None:
    """Killed after the bytes are on disk and before they are moved; the lock it holds is free again."""
    program = f"""
        import os, signal, cluster.store.local as local
        local.os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
        local.LocalStore(local.Path({str(store.root)!r})).write("record.json", b"new")
    """
    store.write("record.json", b"old")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode < 0
    assert store.list() == ["record.json"]
    assert store.read("record.json") == b"old"
    store.write("record.json", b"newer")
    assert store.read("record.json") == b"newer"


def test_a_reader_never_sees_half_an_object(store: Store) -> None:
    program = """
        store = cluster.store.open_store(sys.argv[2])
        bodies = [bytes([number]) * 2_000_000 for number in (1, 2)]
        store.write("object", bodies[0])
        for step in range(30):
            if sys.argv[1] == "0":
                store.write("object", bodies[step % 2])
            elif store.read("object") not in bodies:
                print("torn")
    """
    assert in_processes(2, program, store.uri) == ["", ""]


def test_a_folder_without_hard_links_still_creates_only_once(store: LocalStore, monkeypatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    store.write("object", b"first", if_absent=True)
    with pytest.raises(PreconditionFailedError):
        store.write("object", b"second", if_absent=True)
    assert store.read("object") == b"first"


def test_a_folder_that_empties_is_gone_and_comes_back(store: LocalStore) -> None:
    store.write("a/b/c", b"x")
    store.delete("a/b/c")
    assert not (store.root / "a").exists()
    store.write("a/b/c", b"y")
    assert store.read("a/b/c") == b"y"


def test_a_plain_folder_and_its_uri_are_one_store(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("some folder").write("a", b"x")
    uri = open_store("some folder").uri
    assert uri == f"file://{tmp_path}/some%20folder"
    assert open_store(uri).read("a") == b"x"
    assert pickle.loads(pickle.dumps(open_store("some folder"))).read("a") == b"x"


@pytest.mark.parametrize(
    "uri", ["", "  ", "http://host/x", "gs://bucket", "file://host/x", "s3://", "s3:///x", "s3://b/x?y=1"]
)
def test_what_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(StoreError, match="allowed: a folder, file:///folder or s3://bucket/prefix"):
        open_store(uri)


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a\nb", "a/" + "x" * 256, ".store/x"]
)
def test_what_is_no_key_is_refused(store: Store, key: str) -> None:
    for action in (lambda: store.write(key, b""), lambda: store.read(key), lambda: store.delete(key)):
        with pytest.raises(StoreError, match="is not a key"):
            action()
    assert store.list() == []


def test_the_stores_own_files_are_not_listed(store: Store) -> None:
    store.write("a/b", b"x")
    assert store.list() == ["a/b"]
    assert store.children() == ["a"]


def test_an_object_that_is_not_there_is_not_found(store: Store, tmp_path: Path) -> None:
    store.write("a/b", b"x")
    for key in ("nothing", "a", "a/b/c"):
        assert not store.exists(key)
        with pytest.raises(NotFoundError, match=f"'{key}'"):
            store.read(key)
        with pytest.raises(NotFoundError, match=f"'{key}'"):
            store.download_file(key, tmp_path / "file")
    with pytest.raises(NotFoundError, match="nothing is stored under 'runs/r1'"):
        store.download("runs/r1", tmp_path / "folder")


def test_a_file_in_the_way_is_named(store: LocalStore) -> None:
    store.write("a", b"x")
    with pytest.raises(StoreError, match=r"cannot write 'a/b' in the store (.|\n)*a file is in the way"):
        store.write("a/b", b"y")
    store.write("c/d", b"x")
    with pytest.raises(StoreError, match=r"cannot write 'c'(.|\n)*a folder is in the way"):
        store.write("c", b"y")
    assert not list((store.root / ".store" / "parts").iterdir())


def test_a_store_that_is_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot write to the store /.*/file: (.|\n)*a file is in the way"):
        open_store(str(tmp_path / "file")).check_writable()


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, "belongs to somebody else"),
        (errno.EROFS, "read-only disk"),
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_what_the_disk_refuses_is_explained(store: LocalStore, monkeypatch, number: int, hint: str) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=rf"{os.strerror(number)}(.|\n)*{hint}"):
        store.write("object", b"x")
    with pytest.raises(StoreError, match=hint):
        store.check_writable()
    assert store.list() == []
    assert not list((store.root / ".store" / "parts").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="belongs to somebody else"):
        open_store(str(tmp_path / "store")).check_writable()


def test_an_upload_that_fails_halfway_leaves_the_last_file_out(store: LocalStore, tmp_path: Path) -> None:
    for name in ("COMMIT.json", "a", "b"):
        (tmp_path / name).write_bytes(b"x")

    class Full(LocalStore):
        def upload_file(self, path: Path, key: str) -> None:
            if path.name == "b":
                raise StoreError("disk full")
            super().upload_file(path, key)

    with pytest.raises(StoreError, match="disk full"):
        Full(store.root).upload(tmp_path, "step-1", last="COMMIT.json")
    assert store.list() == ["step-1/a"]


def test_an_upload_of_nothing_is_an_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no file"):
        store.upload(tmp_path, "folder")
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"holds no 'COMMIT\.json'"):
        store.upload(tmp_path, "folder", last="COMMIT.json")


def test_an_uploaded_file_does_not_follow_later_changes(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    store.upload(tmp_path, "folder")
    (tmp_path / "a").write_bytes(b"after!")
    assert store.read("folder/a") == b"before"


def test_a_whole_store_is_not_deleted_by_an_empty_name(store: Store) -> None:
    store.write("a/b", b"x")
    store.write("ab", b"y")
    for prefix in ("", "/"):
        with pytest.raises(StoreError, match="the whole store"):
            store.delete_folder(prefix)
    store.delete_folder("a")
    assert store.list() == ["ab"]


def test_a_store_is_copied_with_its_folder(store: LocalStore, tmp_path: Path) -> None:
    etag = store.write("a", b"x")
    shutil.copytree(store.root, tmp_path / "copy")
    assert open_store(str(tmp_path / "copy")).read_tagged("a") == (b"x", etag)


def test_a_change_that_refuses_writes_nothing(store: Store) -> None:
    swap_json(store, "record.json", lambda old: {"status": "running"})

    def refuse(old: object) -> dict[str, object]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        swap_json(store, "record.json", refuse)
    assert read_json(store, "record.json") == {"status": "running"}


def test_a_document_that_others_keep_changing_is_given_up(store: Store) -> None:
    def meddle(old: object) -> dict[str, int]:
        store.write("record.json", os.urandom(8).hex().join(['{"x": "', '"}']).encode())
        return {"mine": 1}

    with pytest.raises(StoreError, match="changed by others 3 times"):
        swap_json(store, "record.json", meddle, attempts=3)


def test_numbers_that_json_cannot_hold_become_null() -> None:
    document = {"loss": float("nan"), "all": [1.0, float("inf"), (float("-inf"), True, "NaN")]}
    found = decode_json(encode_json(document), "record.json")
    assert found == {"loss": None, "all": [1.0, None, [None, True, "NaN"]]}


def test_a_folder_without_objects_is_no_child(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.write("models/ethanol/1/manifest.json", b"{}")
    (tmp_path / "store" / "models" / "ethanol" / "2").mkdir()
    assert store.children("models/ethanol") == ["1"]


def test_a_folder_that_cannot_be_read_is_an_error_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"))
    store.write("models/ethanol/1/manifest.json", b"{}")
    look = os.scandir

    def refuse(folder: str) -> Any:
        if str(folder).endswith("ethanol/1"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreError, match="cannot list"):
        store.children("models/ethanol")
