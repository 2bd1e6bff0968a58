"""The connection to an S3 server: time limits, credentials, and boto3's and Arrow's clients made from them."""

import os
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import boto3
import pyarrow.fs
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from cluster.errors import UserError

_creation = Lock()  # making a boto3 client is not safe between threads; using one is


def _seconds(name: str, otherwise: float) -> float:
    text = os.environ.get(name, "")
    if not text:
        return otherwise
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"{name} is {text!r}", allowed="a number of seconds, more than 0")
    return value


@dataclass(frozen=True)
class S3Times:
    """How long to wait for an S3 server, in seconds. What is not given is read from the environment, or usual."""

    connect: float = field(default_factory=lambda: _seconds("EQUI_S3_CONNECT_TIMEOUT", 5.0))
    read: float = field(default_factory=lambda: _seconds("EQUI_S3_READ_TIMEOUT", 30.0))  # of silence
    patience: float = field(default_factory=lambda: _seconds("EQUI_S3_PATIENCE", 120.0))  # then nothing is tried again


class S3Connection:
    """Clients of one server, made when first used; endpoint and credentials from the environment.

    wrong_secret: sign with a secret that is not ours, to see whether the server minds.
    """

    def __init__(self, times: S3Times, *, wrong_secret: bool = False) -> None:
        self.times, self._wrong_secret = times, wrong_secret

    @cached_property
    def client(self) -> Any:
        """boto3's client. It repeats requests itself, five times in all."""
        own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        config = Config(
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=self.times.connect,
            read_timeout=self.times.read,
            max_pool_connections=16,
            # Servers other than AWS rarely know the newer checksums; manifests hold a sha256 of each file.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # A server of one's own seldom has a host name for each bucket.
            s3={"addressing_style": "path"} if own else None,
        )
        with _creation:
            # us-east-1 only names the signature where a server of one's own has no region.
            region = self._session.region_name or "us-east-1"
            client = self._session.client("s3", config=config, region_name=region)
            address = client.meta.endpoint_url
            if "@" in urlsplit(address).netloc:  # a user and a password do nothing there but show up in error texts
                safe = urlsplit(address)._replace(netloc=urlsplit(address).netloc.rpartition("@")[2]).geturl()
                client.close()
                client = self._session.client("s3", config=config, region_name=region, endpoint_url=safe)
            return client

    def filesystem(self, bucket: str) -> pyarrow.fs.FileSystem:
        """Arrow's. It looks for credentials in fewer places than boto3 (no SSO): boto3 finds them for both."""
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        credentials = found.get_frozen_credentials()
        endpoint = urlsplit(self.client.meta.endpoint_url)
        region = self._session.region_name
        if region is None:
            region = "us-east-1" if self._custom else pyarrow.fs.resolve_s3_region(bucket)
        return pyarrow.fs.S3FileSystem(
            access_key=credentials.access_key,
            secret_key=credentials.secret_key,
            session_token=credentials.token,
            region=region,
            endpoint_override=endpoint.netloc if self._custom else None,
            scheme=endpoint.scheme,
            connect_timeout=self.times.connect,
            request_timeout=self.times.read,
            retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=5),
        )

    @property
    def endpoint(self) -> str:
        """The server's address, without the user and the password that the environment may give it."""
        return str(self.client.meta.endpoint_url)

    @cached_property
    def _session(self) -> Any:
        session = boto3.session.Session()
        if not self._wrong_secret:
            return session
        found = session.get_credentials()
        if found is None:
            raise NoCredentialsError
        credentials = found.get_frozen_credentials()
        return boto3.session.Session(
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=secrets.token_hex(20),
            aws_session_token=credentials.token,
            region_name=session.region_name,
        )

    @property
    def _custom(self) -> bool:
        """Whether this is a server of one's own rather than AWS."""
        return not (urlsplit(self.client.meta.endpoint_url).hostname or "").endswith(
            (".amazonaws.com", ".amazonaws.com.cn")
        )
