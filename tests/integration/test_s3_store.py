"""The S3 store against a server process: the conformance checks of the folder, and what only a bucket can do."""

import pickle
from pathlib import Path

import pytest

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store import open_store
from cluster.store.checking import Check
from cluster.store.doctor import CHECKS, examine
from cluster.store.s3 import S3Store
from cluster.store.s3_client import S3Times

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


def test_a_travelling_store_keeps_its_times(s3_environment) -> None:
    name, _, prefix = s3_environment.uri().removeprefix("s3://").partition("/")
    store = pickle.loads(pickle.dumps(S3Store(name, prefix, S3Times(connect=1.0, read=2.0, patience=3.0))))
    assert store._connection.times == S3Times(connect=1.0, read=2.0, patience=3.0)
    assert store._client.meta.config.read_timeout == 2.0


def test_ranges_are_those_of_a_folder(bucket, store) -> None:
    """The folder is the slow twin: whatever is asked, both give the same bytes or the same error."""
    data = bytes(range(256)) * 40
    bucket.write("object", data)
    store.write("object", data)
    end = len(data)
    edges = [0, 1, 100, end - 1, end, end + 1, 10 * end]
    for offset in (*edges, *(-edge for edge in edges if edge)):
        for length in (0, 1, 8, end - 1, end, end + 1, -1):
            found = []
            for place in (bucket, store):
                try:
                    found.append(place.read_range("object", offset, length))
                except StoreError as error:
                    found.append(error.message)
            assert found[0] == found[1], (offset, length)
    for length in (0, 1):
        with pytest.raises(NotFoundError, match="'nothing'"):
            bucket.read_range("nothing", 0, length)
    assert bucket.local_path("object") is None


def test_a_range_costs_one_request_and_its_own_bytes(bucket, s3_environment) -> None:
    bucket.write("object", b"x" * 1_000_000)
    s3_environment.break_next()
    assert bucket.read_range("object", 10, 20) == b"x" * 20
    assert [method for method, _, _ in s3_environment.requests()] == ["GET"]


def test_a_server_without_ranges_is_named(bucket, monkeypatch) -> None:
    bucket.write("object", b"x" * 100)
    get = bucket._client.get_object

    def whole(**request):
        request.pop("Range")
        return get(**request)

    monkeypatch.setattr(bucket._client, "get_object", whole)
    with pytest.raises(StoreError, match="the server answers with the whole object"):
        bucket.read_range("object", 10, 20)


def test_a_server_that_gives_another_range_is_not_believed(bucket, monkeypatch) -> None:
    bucket.write("object", bytes(range(100)))
    get, asked = bucket._client.get_object, []

    def another(**request):
        asked.append(request["Range"])
        return get(**{**request, "Range": "bytes=0-19"} if len(asked) < 3 else request)

    monkeypatch.setattr(bucket._client, "get_object", another)
    assert bucket.read_range("object", 10, 20) == bytes(range(10, 30))
    assert asked == ["bytes=10-29"] * 3


def test_an_empty_object_is_downloaded(bucket, tmp_path: Path) -> None:
    bucket.write("empty", b"")
    bucket.download_file("empty", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b""
    assert bucket.read_range("empty", 0, 0) == b""


def test_a_folder_is_deleted_by_few_requests(bucket, s3_environment) -> None:
    for number in range(30):
        bucket.write(f"folder/{number},a=b c", b"x")
    bucket.write("folder-beside", b"x")
    s3_environment.break_next()
    bucket.delete_folder("folder")
    assert [method for method, _, _ in s3_environment.requests()] == ["GET", "POST"]
    assert bucket.list() == ["folder-beside"]
    with pytest.raises(StoreError, match="the whole store"):
        bucket.delete_folder("/")


def test_a_folder_is_deleted_where_only_single_deletions_are_known(bucket, s3_environment) -> None:
    for number in range(3):
        bucket.write(f"folder/{number}", b"x")
    s3_environment.break_next({"method": "POST", "path": "delete", "kind": "missing"})
    bucket.delete_folder("folder")
    assert bucket.list() == []


def test_the_doctor_says_that_any_secret_is_accepted(bucket) -> None:
    name = "a wrong secret is refused"
    (finding,) = examine(bucket, {name: CHECKS[name]})
    assert finding.problem is None
    assert "accepts any secret" in str(finding.note)


def test_a_wrong_secret_is_one_that_is_not_ours(bucket) -> None:
    stranger = bucket.stranger()
    ours, theirs = (place._connection._session.get_credentials() for place in (bucket, stranger))
    assert ours.access_key == theirs.access_key
    assert ours.secret_key != theirs.secret_key


def test_equal_bytes_of_another_writer_are_not_taken_for_ours(bucket) -> None:
    bucket.write("record", b"same", if_absent=True)
    with pytest.raises(PreconditionFailedError):
        bucket.write("record", b"same", if_absent=True)


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
