"""An S3 server that overloads, resets, breaks off, falls silent, lies and forgets: nothing is lost or doubled."""

import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError, UserError
from cluster.store import open_store, read_json, swap_json
from cluster.store.s3 import S3Store
from cluster.store.s3_client import S3Times

pytestmark = pytest.mark.integration

SILENCE = 0.4  # seconds that the store of these tests waits for a byte
DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def bucket(s3_environment) -> S3Store:
    """A store that soon loses its patience."""
    name, _, prefix = s3_environment.uri().removeprefix("s3://").partition("/")
    return S3Store(name, prefix, S3Times(connect=1.0, read=SILENCE, patience=20.0))


def download(store: S3Store, folder: Path) -> bytes:
    store.download_file("object", folder / "copy")
    assert [path.name for path in folder.iterdir()] == ["copy"]
    return (folder / "copy").read_bytes()


READS: dict[str, Callable[[S3Store, Path], bytes]] = {
    "read": lambda store, folder: store.read("object"),
    "read_range": lambda store, folder: store.read_range("object", 0, len(DATA)),
    "the end": lambda store, folder: store.read_range("object", -len(DATA), len(DATA)),
    "download_file": download,
}
BROKEN_BODIES = [
    {"kind": "truncate"},
    {"kind": "truncate", "keep": 0.0},
    {"kind": "reset", "keep": 0.3},
    {"kind": "stall", "seconds": 3 * SILENCE},
]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("fault", BROKEN_BODIES, ids=lambda fault: f"{fault['kind']}-{fault.get('keep', '')}")
def test_a_body_that_breaks_off_three_times_is_read(bucket, s3_environment, tmp_path: Path, read, fault) -> None:
    bucket.write("object", DATA)
    s3_environment.break_next({"method": "GET", "path": "object", "times": 3, **fault})
    assert read(bucket, tmp_path) == DATA
    assert s3_environment.faults_left() == 0


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("fault", BROKEN_BODIES, ids=lambda fault: f"{fault['kind']}-{fault.get('keep', '')}")
def test_boto3_alone_would_not_read_it(bucket, s3_environment, tmp_path: Path, monkeypatch, read, fault) -> None:
    bucket.write("object", DATA)
    monkeypatch.setattr("cluster.store.s3.passes_by_itself", lambda error: False)
    s3_environment.break_next({"method": "GET", "path": "object", **fault})
    with pytest.raises(StoreError, match="cannot read 'object'"):
        read(bucket, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["read_range", "the end", "download_file"])
def test_a_short_body_that_says_it_is_whole_is_noticed(bucket, s3_environment, tmp_path: Path, name: str) -> None:
    bucket.write("object", DATA)
    s3_environment.break_next({"method": "GET", "path": "object", "kind": "short", "times": 2})
    assert READS[name](bucket, tmp_path) == DATA
    assert s3_environment.faults_left() == 0


@pytest.mark.parametrize("fault", [*BROKEN_BODIES, {"kind": "short"}], ids=lambda fault: str(fault["kind"]))
def test_a_listing_that_breaks_off_is_read(bucket, s3_environment, fault) -> None:
    for number in range(20):
        bucket.write(f"many/{number:02d}/object", b"x")
    s3_environment.break_next({"method": "GET", "path": "list-type", "times": 2, **fault})
    assert bucket.list("many") == [f"many/{number:02d}/object" for number in range(20)]
    s3_environment.break_next({"method": "GET", "path": "list-type", "times": 2, **fault})
    assert bucket.children("many") == [f"{number:02d}" for number in range(20)]
    assert s3_environment.faults_left() == 0


def write_and_read(store: S3Store) -> None:
    store.write("object", DATA)
    assert store.read("object") == DATA


def create(store: S3Store) -> None:
    store.write("new", b"mine", if_absent=True)
    with pytest.raises(PreconditionFailedError):
        store.write("new", b"other", if_absent=True)
    assert store.read("new") == b"mine"


def swap(store: S3Store) -> None:
    # Not a plain write: one that was given up and carried out later would overwrite what came after it.
    etag = store.write("object", b"one", if_absent=True)
    later = store.write("object", b"two", if_match=etag)
    with pytest.raises(PreconditionFailedError):
        store.write("object", b"three", if_match=etag)
    assert store.read_tagged("object") == (b"two", later)


def look(store: S3Store) -> None:
    assert not store.exists("nothing")
    with pytest.raises(NotFoundError):
        store.read("nothing")
    with pytest.raises(NotFoundError):
        store.read_range("nothing", 0, 1)


def list_and_delete(store: S3Store) -> None:
    for name in ("a/1", "a/2", "b/1"):
        store.write(name, b"x")
    assert store.list() == ["a/1", "a/2", "b/1"]
    assert store.children() == ["a", "b"]
    store.delete_folder("a")
    store.delete("b/1")
    assert store.list() == []


WORK = [write_and_read, create, swap, look, list_and_delete]
REFUSALS: list[dict[str, Any]] = [
    {"kind": "503"},
    {"kind": "reset"},
    {"kind": "delay", "seconds": 2 * SILENCE},
    {"kind": "lost"},
]


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("fault", REFUSALS, ids=lambda fault: fault["kind"])
def test_each_first_request_of_a_kind_may_fail(bucket, s3_environment, work, fault) -> None:
    methods = ("GET", "PUT", "HEAD", "POST", "DELETE")
    s3_environment.break_next(*({"method": method, **fault} for method in methods))
    work(bucket)


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("fault", [REFUSALS[0], REFUSALS[1]], ids=lambda fault: fault["kind"])
def test_a_burst_that_boto3_gives_up_on_is_outlasted(bucket, s3_environment, work, fault) -> None:
    patient = S3Store(bucket.bucket, bucket.prefix, S3Times(connect=1.0, read=SILENCE, patience=90.0))
    s3_environment.break_next({"times": 7, **fault})  # boto3 takes up to 30 s for its five attempts
    work(patient)
    assert s3_environment.faults_left() == 0


def test_a_creation_whose_answer_is_lost_is_won(bucket, s3_environment) -> None:
    s3_environment.break_next({"method": "PUT", "path": "record", "kind": "lost"})
    etag = bucket.write("record", b"mine", if_absent=True)
    assert s3_environment.faults_left() == 0
    assert bucket.read_tagged("record") == (b"mine", etag)


def test_a_swap_whose_answer_is_lost_is_won(bucket, s3_environment) -> None:
    etag = bucket.write("record", b"before")
    s3_environment.break_next({"method": "PUT", "path": "record", "kind": "lost"})
    etag = bucket.write("record", b"after", if_match=etag)
    assert s3_environment.faults_left() == 0
    assert bucket.read_tagged("record") == (b"after", etag)


def test_a_creation_whose_answers_are_all_lost_is_won(bucket, s3_environment) -> None:
    s3_environment.break_next({"method": "PUT", "path": "record", "kind": "lost", "times": 3})
    bucket.write("record", b"mine", if_absent=True)
    assert s3_environment.faults_left() == 0
    assert bucket.read("record") == b"mine"


def test_without_the_nonce_the_winner_would_be_told_that_it_lost(bucket, s3_environment, monkeypatch) -> None:
    monkeypatch.setattr(S3Store, "_own", lambda self, path, nonce: None)
    s3_environment.break_next({"method": "PUT", "path": "record", "kind": "lost"})
    with pytest.raises(PreconditionFailedError):
        bucket.write("record", b"mine", if_absent=True)
    assert bucket.read("record") == b"mine"


def test_a_creation_is_won_though_the_look_after_it_fails_at_first(bucket, s3_environment) -> None:
    s3_environment.break_next(
        {"method": "PUT", "path": "record", "kind": "lost"}, {"method": "HEAD", "path": "record", "kind": "503"}
    )
    bucket.write("record", b"mine", if_absent=True)
    assert s3_environment.faults_left() == 0
    assert bucket.read("record") == b"mine"


def test_a_lost_answer_of_a_loser_is_no_victory(bucket, s3_environment) -> None:
    etag = bucket.write("record", b"same", if_absent=True)
    for condition in ({"if_absent": True}, {"if_match": '"0123456789abcdef0123456789abcdef"'}):
        s3_environment.break_next({"method": "PUT", "path": "record", "kind": "lost"})
        with pytest.raises(PreconditionFailedError):
            bucket.write("record", b"same", **condition)
        assert s3_environment.faults_left() == 0
    assert bucket.read_tagged("record") == (b"same", etag)


def test_a_request_that_arrives_after_its_repetition_changes_nothing(bucket, s3_environment) -> None:
    s3_environment.break_next({"method": "PUT", "path": "record", "kind": "delay", "seconds": 2 * SILENCE})
    first = bucket.write("record", b"one", if_absent=True)
    second = bucket.write("record", b"two", if_match=first)
    time.sleep(2 * SILENCE)  # the delayed creation is carried out only now
    assert bucket.read_tagged("record") == (b"two", second)


def test_a_counter_is_exact_whose_answers_are_lost_now_and_then(bucket, s3_environment) -> None:
    for _ in range(4):
        s3_environment.break_next({"method": "PUT", "path": "count", "kind": "lost"})
        swap_json(bucket, "count.json", lambda old: {"n": (old or {"n": 0})["n"] + 1})
        assert s3_environment.faults_left() == 0
        swap_json(bucket, "count.json", lambda old: {"n": (old or {"n": 0})["n"] + 1})
    assert read_json(bucket, "count.json") == {"n": 8}


def test_many_writers_in_a_storm_lose_nothing(bucket, s3_environment) -> None:
    s3_environment.break_next(
        {"method": "PUT", "path": "names", "kind": "503", "times": 2},
        {"method": "GET", "path": "names", "kind": "truncate", "times": 4},
        {"method": "GET", "path": "names", "kind": "reset", "times": 2},
        {"method": "PUT", "path": "names", "kind": "lost", "times": 2},
    )

    def add(number: int) -> None:
        swap_json(bucket, "names.json", lambda old: {**(old or {}), str(number): number}, attempts=99)

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(add, range(12)):
            pass
    assert s3_environment.faults_left() == 0
    assert read_json(bucket, "names.json") == {str(number): number for number in range(12)}


FOR_EVER = [
    ({"kind": "truncate"}, "breaks off the connection or its answer, again and again"),
    ({"kind": "short"}, "breaks off the connection or its answer, again and again"),
    ({"kind": "stall", "seconds": 2 * SILENCE}, "fell silent, again and again(.|\n)*EQUI_S3_READ_TIMEOUT"),
    ({"kind": "missing"}, "'object' is not in the store"),
]


@pytest.mark.parametrize(("fault", "words"), FOR_EVER, ids=[str(fault["kind"]) for fault, _ in FOR_EVER])
def test_what_fails_for_ever_is_an_error_after_the_time_given(bucket, s3_environment, fault, words: str) -> None:
    hasty = S3Store(bucket.bucket, bucket.prefix, S3Times(connect=1.0, read=SILENCE, patience=1.0))
    hasty.write("object", DATA)
    s3_environment.break_next({"method": "GET", "times": 999, **fault})
    begun = time.monotonic()
    with pytest.raises(UserError, match=words):
        hasty.read_range("object", 0, len(DATA))
    assert time.monotonic() - begun < 4.0


@pytest.mark.parametrize(
    ("fault", "words"),
    [("503", r"asks to slow down \(SlowDown\)"), ("reset", "(breaks off the connection|fell silent)")],
)
def test_a_server_that_refuses_for_ever_is_named(bucket, s3_environment, fault: str, words: str) -> None:
    hasty = S3Store(bucket.bucket, bucket.prefix, S3Times(connect=1.0, read=SILENCE, patience=1.0))
    s3_environment.break_next({"kind": fault, "times": 999})
    with pytest.raises(StoreError, match=rf"cannot read 'object' in s3://equi-tests/\w+: http://127.*{words}"):
        hasty.read("object")


def test_patience_comes_from_the_environment(s3_environment, monkeypatch) -> None:
    monkeypatch.setenv("EQUI_S3_READ_TIMEOUT", str(SILENCE))
    monkeypatch.setenv("EQUI_S3_PATIENCE", "0.5")
    store = open_store(s3_environment.uri())
    store.write("object", DATA)
    s3_environment.break_next({"method": "GET", "kind": "stall", "seconds": 2 * SILENCE, "times": 99})
    begun = time.monotonic()
    with pytest.raises(StoreError, match="fell silent"):
        store.read("object")
    assert time.monotonic() - begun < 3.0


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(s3_environment, monkeypatch, text: str) -> None:
    monkeypatch.setenv("EQUI_S3_READ_TIMEOUT", text)
    with pytest.raises(UserError, match=f"EQUI_S3_READ_TIMEOUT is '{text}'"):
        open_store(s3_environment.uri()).read("object")


def test_no_error_tells_a_credential(s3_environment, monkeypatch, capfd) -> None:
    words = {"AWS_ACCESS_KEY_ID": "AKIDHUNTER", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_SESSION_TOKEN": "tokenhunter"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    name, _, prefix = s3_environment.uri().removeprefix("s3://").partition("/")
    host = s3_environment.endpoint.removeprefix("http://")
    texts = []
    for endpoint in (f"http://me:passhunter@{host}", "http://me:passhunter@127.0.0.1:9"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for fault in ("truncate", "stall", "missing", "lost"):
            store = S3Store(name, prefix, S3Times(connect=0.2, read=0.2, patience=0.2))
            s3_environment.break_next({"kind": fault, "seconds": 0.5, "times": 999, "method": "GET"})
            for action in (store.arrow, lambda store=store: store.read("object"), store.list):
                try:
                    action()
                except UserError as error:
                    texts += [str(error), repr(error), "".join(traceback.format_exception(error))]
            if endpoint.endswith(":9"):
                break  # nobody is there: one fault is as good as another
    out, err = capfd.readouterr()
    assert len(texts) > 10
    everything = "\n".join([*texts, out, err])
    assert "hunter" not in everything.lower()
