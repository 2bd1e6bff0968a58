"""What S3's errors mean: which pass by themselves, and what a user is told of the others."""

from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError

from cluster.errors import NotFoundError, StoreError
from cluster.store.retrying import Patience
from cluster.store.s3 import S3Store
from cluster.store.s3_client import S3Times
from cluster.store.s3_errors import explained, passes_by_itself

URI = "s3://bucket/prefix"
SERVER = "http://server:9000"


def answer(code: str, status: int) -> boto.ClientError:
    response: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(response, "GetObject")


def wrapped(error: Exception) -> S3UploadFailedError:
    """As boto3's transfers do it: the text of the error, and the error itself only as its context."""
    try:
        try:
            raise error
        except Exception:
            raise S3UploadFailedError("Failed to upload")  # noqa: B904
    except S3UploadFailedError as outer:
        return outer


PASSING = [
    answer("SlowDown", 503),
    answer("InternalError", 500),
    answer("TooManyRequests", 429),
    boto.ReadTimeoutError(endpoint_url=SERVER),
    boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    boto.ResponseStreamingError(error="x"),
    boto.ConnectionClosedError(endpoint_url=SERVER),
    ConnectionResetError("reset"),
    ProtocolError("broken"),
    ResponseParserError("half a listing"),
]
LASTING = [
    answer("AccessDenied", 403),
    answer("NoSuchKey", 404),
    answer("PreconditionFailed", 412),
    boto.NoCredentialsError(),
    boto.EndpointConnectionError(endpoint_url=SERVER),  # boto3 has asked five times whether anybody is there
    FileNotFoundError("no such file here"),
    ValueError("a mistake of ours"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_may_succeed_later_is_worth_another_attempt(error: Exception) -> None:
    assert passes_by_itself(error)
    assert passes_by_itself(wrapped(error))


@pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
def test_what_stays_as_it_is_is_not(error: Exception) -> None:
    assert not passes_by_itself(error)
    assert not passes_by_itself(wrapped(error))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (answer("SlowDown", 503), "cannot read 'a/b' in s3://bucket/prefix: http://server:9000 asks to slow down"),
        (answer("AccessDenied", 403), "the server refuses (AccessDenied)\n  check the AWS credentials"),
        (answer("NoSuchBucket", 404), "there is no bucket 'bucket'\n  make it first"),
        (boto.NoCredentialsError(), "there are no AWS credentials\n  set AWS_ACCESS_KEY_ID"),
        (boto.EndpointConnectionError(endpoint_url="x"), "no answer from http://server:9000\n  is the server running"),
        (boto.ReadTimeoutError(endpoint_url="x"), "fell silent, again and again\n  EQUI_S3_READ_TIMEOUT"),
        (ProtocolError("x"), "http://server:9000 breaks off the connection or its answer"),
    ],
)
def test_a_user_is_told_what_happened_where_and_what_to_do(error: Exception, words: str) -> None:
    for one in (error, wrapped(error)):
        told = explained(one, "read", "a/b", URI, SERVER)
        assert isinstance(told, StoreError)
        assert words in str(told)


def test_what_is_missing_is_not_found() -> None:
    told = explained(answer("NoSuchKey", 404), "read", "a/b", URI, SERVER)
    assert isinstance(told, NotFoundError)
    assert str(told) == "'a/b' is not in the store s3://bucket/prefix"


def test_the_password_of_an_address_is_left_out() -> None:
    error = boto.SSLError(endpoint_url="https://me:hunter2@server:9000/x", error="bad certificate")
    told = str(explained(error, "read", "", URI, SERVER))
    assert "https://server:9000/x" in told
    assert "hunter2" not in told


def test_patience_is_a_time_and_no_number_of_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "pause", lambda patience, failures: 0.0)
    failures = [answer("SlowDown", 503) for _ in range(50)]

    def call() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert S3Store("bucket", "prefix", S3Times(patience=60.0))._persist(call) == "done"
