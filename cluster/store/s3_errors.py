"""What went wrong on S3: which errors pass by themselves, and the others in the words of a user."""

import re

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.exceptions import ReadTimeoutError as SilenceError

from cluster.errors import NotFoundError, StoreError, UserError

MISSING = ("NoSuchKey", "404", "NotFound")
LOST = ("PreconditionFailed", "412")
CONFLICT = ("ConditionalRequestConflict", "409")
NO_SUCH_RANGE = ("InvalidRange", "416")
REFUSED = ("AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")
_USER = re.compile(r"//[^/@\s]*@")  # of an address, with the password: botocore quotes addresses
_PASSING = (429, 500, 502, 503, 504)
# boto3 repeats requests, but no body that breaks off or falls silent: that comes from reading it, after the answer.
# The bodies that boto3 reads itself, those of listings, let urllib3's errors through as they are.
_SILENT = (ReadTimeoutError, SilenceError)
_BROKEN = (
    IncompleteReadError,
    ResponseStreamingError,
    ConnectionClosedError,
    ConnectionError,  # Python's own: a body reset before urllib3 sees it
    ProtocolError,
    ResponseParserError,  # half a listing
    *_SILENT,
)
# Everything that talking to a server can raise.
FAILURES = (BotoCoreError, ClientError, Boto3Error, HTTPError, ResponseParserError, OSError)


def code_of(error: BaseException) -> str:
    """S3's name for what went wrong; empty where S3 did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def passes_by_itself(error: BaseException) -> bool:
    """Whether the same request may well succeed later: a broken connection, or a server that is overloaded."""
    if isinstance(error, Boto3Error):
        cause = _cause(error)
        return cause is not None and passes_by_itself(cause)
    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _PASSING
    return isinstance(error, _BROKEN)


def explained(error: BaseException, action: str, key: str, uri: str, endpoint: str) -> UserError:
    """The error in the user's words. The texts used here never hold a credential."""
    what = f"cannot {action} {key!r} in {uri}" if key else f"cannot {action} {uri}"
    code = code_of(error)
    cause = _cause(error)
    if isinstance(error, Boto3Error) and cause is not None:  # a transfer wraps what went wrong
        return explained(cause, action, key, uri, endpoint)
    if code == "NoSuchBucket":
        bucket = uri.removeprefix("s3://").partition("/")[0]
        return StoreError(f"{what}: there is no bucket {bucket!r}", hint="make it first, or name another")
    if code in MISSING:
        return NotFoundError(f"{key!r} is not in the store {uri}")
    if code in REFUSED:
        hint = "check the AWS credentials and what they are allowed to do"
        return StoreError(f"{what}: the server refuses ({code})", hint=hint)
    if isinstance(error, NoCredentialsError):
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give this machine a role"
        return StoreError(f"{what}: there are no AWS credentials", hint=hint)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        hint = "is the server running, and AWS_ENDPOINT_URL right?"
        return StoreError(f"{what}: no answer from {endpoint}", hint=hint)
    if isinstance(error, _SILENT):
        hint = "EQUI_S3_READ_TIMEOUT says how many seconds of silence are too many"
        return StoreError(f"{what}: {endpoint} fell silent, again and again", hint=hint)
    if passes_by_itself(error):
        reason = f"asks to slow down ({code})" if code else "breaks off the connection or its answer"
        return StoreError(f"{what}: {endpoint} {reason}, again and again", hint="try again later")
    return StoreError(f"{what}: {_USER.sub('//', str(error))}")


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or error.__context__
