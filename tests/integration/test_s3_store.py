"""The S3 store against a server process: the conformance checks of the folder, and a server that fails."""

import pickle
import threading
from pathlib import Path

import pytest

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store import open_store
from cluster.store.doctor import CHECKS, Check, examine

pytestmark = pytest.mark.integration


@pytest.fixture
def bucket(s3_environment):
    return open_store(s3_environment.uri())


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_bucket_keeps(check: Check, bucket) -> None:
    check(bucket, "probes/one")


def test_an_examination_of_a_bucket_leaves_nothing(bucket) -> None:
    some = {name: CHECKS[name] for name in ("what is written is read", "a prefix is a folder")}
    assert [finding.problem for finding in examine(bucket, some)] == [None, None]
    assert bucket.list() == []


def test_a_store_at_the_root_of_a_bucket_works(s3_environment) -> None:
    client = s3_environment.client()
    client.create_bucket(Bucket="bare")
    client.close()
    store = open_store("s3://bare")
    store.write("a/b", b"x")
    assert store.uri == "s3://bare"
    assert store.list() == ["a/b"]
    assert store.children() == ["a"]
    assert store.arrow()[1] == "bare"


def test_a_store_travels_by_its_uri(bucket) -> None:
    bucket.write("a", b"x")
    assert pickle.loads(pickle.dumps(bucket)).read("a") == b"x"


def test_a_bucket_with_more_than_one_page_is_listed_whole(bucket) -> None:
    def fill(start: int) -> None:
        for number in range(start, 1005, 5):
            bucket.write(f"many/{number:04d}", b"")

    threads = [threading.Thread(target=fill, args=(start,)) for start in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bucket.list("many") == [f"many/{number:04d}" for number in range(1005)]


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


def test_equal_bytes_of_another_writer_are_not_taken_for_ours(bucket) -> None:
    bucket.write("record", b"same", if_absent=True)
    with pytest.raises(PreconditionFailedError):
        bucket.write("record", b"same", if_absent=True)


def test_a_creation_whose_answers_are_all_lost_is_won(bucket, s3_environment) -> None:
    s3_environment.break_next({"method": "PUT", "path": "record", "kind": "lost", "times": 5})
    bucket.write("record", b"mine", if_absent=True)
    assert s3_environment.faults_left() == 0
    assert bucket.read("record") == b"mine"


def test_a_body_that_breaks_off_is_read_again(bucket, s3_environment) -> None:
    bucket.write("object", b"x" * 100_000)
    s3_environment.break_next({"method": "GET", "path": "object", "kind": "truncate", "times": 2})
    assert bucket.read("object") == b"x" * 100_000
    assert s3_environment.faults_left() == 0


def test_a_body_that_always_breaks_off_is_an_error(bucket, s3_environment) -> None:
    bucket.write("object", b"x" * 100_000)
    s3_environment.break_next({"method": "GET", "path": "object", "kind": "truncate", "times": 99})
    with pytest.raises(StoreError, match="cannot read 'object'"):
        bucket.read("object")


def test_a_download_that_breaks_off_is_repeated(bucket, s3_environment, tmp_path: Path) -> None:
    bucket.write("folder/object", b"x" * 100_000)
    s3_environment.break_next({"method": "GET", "path": "folder/object", "kind": "truncate"})
    bucket.download("folder", tmp_path)
    assert (tmp_path / "object").read_bytes() == b"x" * 100_000
    assert s3_environment.faults_left() == 0


def test_a_server_that_asks_to_slow_down_is_asked_again(bucket, s3_environment) -> None:
    s3_environment.break_next({"method": "PUT", "path": "object", "kind": "503", "times": 2})
    bucket.write("object", b"x", if_absent=True)
    assert bucket.read("object") == b"x"
    assert s3_environment.faults_left() == 0


@pytest.mark.slow
def test_a_failed_multipart_upload_leaves_no_object_and_no_parts(bucket, s3_environment, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (9 << 20))
    s3_environment.break_next({"method": "PUT", "path": "partNumber=2", "kind": "503", "times": 99})
    with pytest.raises(StoreError, match="cannot write 'large'"):
        bucket.upload_file(tmp_path / "large", "large")
    s3_environment.break_next()
    assert not bucket.exists("large")
    client = s3_environment.client()
    assert "Uploads" not in client.list_multipart_uploads(Bucket=s3_environment.bucket)
    client.close()


def test_a_missing_bucket_is_named(s3_environment) -> None:
    with pytest.raises(StoreError, match="there is no bucket 'nowhere'"):
        open_store("s3://nowhere/x").check_writable()
    with pytest.raises(StoreError, match="there is no bucket 'nowhere'"):
        open_store("s3://nowhere/x").list()


def test_a_missing_bucket_is_named_by_an_upload(s3_environment, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StoreError, match="there is no bucket 'nowhere'"):
        open_store("s3://nowhere/x").upload(tmp_path, "folder")


def test_a_server_that_does_not_answer_is_named_without_its_password(s3_environment, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hunter2@127.0.0.1:9")
    with pytest.raises(StoreError, match=r"no answer from http://127.0.0.1:9\b") as caught:
        open_store(s3_environment.uri()).check_writable()
    assert "hunter2" not in str(caught.value)


def test_missing_credentials_are_asked_for(s3_environment, monkeypatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = open_store(s3_environment.uri())
    with pytest.raises(StoreError, match="no AWS credentials"):
        store.read("x")
    with pytest.raises(StoreError, match="no AWS credentials"):
        store.arrow()


def test_an_object_that_is_not_there_is_not_found(bucket, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="'nothing'"):
        bucket.read("nothing")
    with pytest.raises(NotFoundError, match="'nothing'"):
        bucket.download_file("nothing", tmp_path / "file")
    with pytest.raises(NotFoundError, match="nothing is stored"):
        bucket.download("nothing", tmp_path)


def test_a_key_that_leaves_the_folder_is_not_downloaded(bucket, s3_environment, tmp_path: Path) -> None:
    client = s3_environment.client()
    client.put_object(Bucket=s3_environment.bucket, Key=f"{bucket.prefix}/folder/../../escaped", Body=b"x")
    client.close()
    with pytest.raises(StoreError, match="is not a key"):
        bucket.download("folder", tmp_path / "inner" / "inner")
    assert not (tmp_path / "escaped").exists()
