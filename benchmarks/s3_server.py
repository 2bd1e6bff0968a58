"""The S3 server of the tests, moto, in a process of its own, with this process's environment pointing at it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

SERVER = Path(__file__).parents[1] / "tests" / "s3_double.py"
BUCKET = "equi-benchmarks"


@contextmanager
def s3_server() -> Iterator[str]:
    """The URI of an empty bucket, as long as the block lasts. Raises RuntimeError where the server does not start."""
    with subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        endpoint = process.stdout.readline().strip() if process.stdout else ""
        if not endpoint:
            raise RuntimeError("the S3 server did not start; its error is above")
        os.environ.update(
            AWS_ENDPOINT_URL=endpoint,
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_EC2_METADATA_DISABLED="true",
            NO_PROXY="127.0.0.1,localhost",
        )
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        client.close()
        try:
            yield f"s3://{BUCKET}"
        finally:
            process.terminate()
