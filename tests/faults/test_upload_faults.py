"""Large objects on their way to a failing S3 server and back: whole, or not there, and nothing of them left behind."""

import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import StoreError
from cluster.store.s3 import S3Store
from cluster.store.s3_client import S3Times
from cluster.store.uploads import clean_uploads

pytestmark = pytest.mark.integration

SILENCE = 0.5  # seconds that the store of these tests waits for a byte
LARGE = np.random.default_rng(1).bytes((20 << 20) + 7)  # three parts


@pytest.fixture
def bucket(s3_environment) -> S3Store:
    name, _, prefix = s3_environment.uri().removeprefix("s3://").partition("/")
    return S3Store(name, prefix, S3Times(connect=1.0, read=SILENCE, patience=20.0))


@pytest.mark.parametrize("fault", [{"kind": "503"}, {"kind": "reset"}, {"kind": "lost"}], ids=lambda f: f["kind"])
def test_a_large_upload_whose_parts_fail_once_arrives_whole(bucket, s3_environment, tmp_path: Path, fault) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    s3_environment.break_next({"method": "PUT", "path": "partNumber=", **fault})
    bucket.upload_file(tmp_path / "large", "large")
    assert s3_environment.faults_left() == 0
    bucket.download_file("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == LARGE
    assert bucket.unfinished() == []


def test_a_large_download_survives_a_fault_in_each_piece(bucket, s3_environment, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    bucket.upload_file(tmp_path / "large", "large")
    kinds = ("truncate", "short", "reset")
    s3_environment.break_next(*({"method": "GET", "path": "large", "kind": kind, "keep": 0.9} for kind in kinds))
    bucket.download_file("large", tmp_path / "back")
    assert s3_environment.faults_left() == 0
    assert (tmp_path / "back").read_bytes() == LARGE


def test_a_download_never_mixes_two_versions(bucket, s3_environment, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(LARGE)
    (tmp_path / "two").write_bytes(LARGE[::-1])
    bucket.upload_file(tmp_path / "one", "large")
    s3_environment.break_next({"method": "GET", "path": "large", "kind": "stall", "seconds": 0.3})
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(bucket.download_file, "large", tmp_path / "back")
        while not s3_environment.requests():
            time.sleep(0.01)
        bucket.upload_file(tmp_path / "two", "large")
        download.result()
    assert (tmp_path / "back").read_bytes() in (LARGE, LARGE[::-1])


def test_a_failed_upload_leaves_no_object_and_no_parts(bucket, s3_environment, tmp_path: Path) -> None:
    hasty = S3Store(bucket.bucket, bucket.prefix, S3Times(connect=1.0, read=SILENCE, patience=1.0))
    (tmp_path / "large").write_bytes(LARGE)
    s3_environment.break_next({"method": "PUT", "path": "partNumber=2", "kind": "503", "times": 999})
    with pytest.raises(StoreError, match="cannot write 'large'"):
        hasty.upload_file(tmp_path / "large", "large")
    s3_environment.break_next()
    assert not hasty.exists("large")
    assert hasty.unfinished() == []


UPLOAD = """
    import signal, sys
    from pathlib import Path
    from cluster.store import open_store
    signal.signal(signal.SIGINT, signal.default_int_handler)
    open_store(sys.argv[1]).upload_file(Path(sys.argv[2]), "large")
"""


def upload_stopped_halfway(bucket: S3Store, s3_environment, file: Path, number: signal.Signals) -> int:
    """Send the signal to a process whose upload has one part that takes long; returns its exit code."""
    file.write_bytes(LARGE)
    s3_environment.break_next({"method": "PUT", "path": "partNumber=2", "kind": "delay", "seconds": 4})
    command = [sys.executable, "-c", textwrap.dedent(UPLOAD), bucket.uri, str(file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while s3_environment.faults_left():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
    return process.returncode


def test_an_interrupted_upload_is_aborted(bucket, s3_environment, tmp_path: Path) -> None:
    assert upload_stopped_halfway(bucket, s3_environment, tmp_path / "large", signal.SIGINT) != 0
    assert bucket.list() == []
    assert bucket.unfinished() == []


def test_a_killed_upload_shows_nothing_and_its_parts_are_removed(bucket, s3_environment, tmp_path: Path) -> None:
    assert upload_stopped_halfway(bucket, s3_environment, tmp_path / "large", signal.SIGKILL) == -signal.SIGKILL
    assert bucket.list() == []
    (upload,) = bucket.unfinished()
    assert upload.key == "large"
    # moto says of every upload that it was begun on the 10th of November 2010.
    begun = datetime(2010, 11, 10, 20, 48, 33, tzinfo=UTC)
    assert upload.begun == begun
    assert clean_uploads(bucket, now=begun + timedelta(hours=23)) == []
    assert clean_uploads(bucket, now=begun + timedelta(hours=25)) == [upload]
    assert bucket.unfinished() == []


def test_uploads_of_others_are_never_touched(bucket, s3_environment) -> None:
    client = s3_environment.client()
    for key in ("other/large", f"{bucket.prefix}-beside/large", f"{bucket.prefix}/mine"):
        client.create_multipart_upload(Bucket=bucket.bucket, Key=key)
    assert [upload.key for upload in clean_uploads(bucket)] == ["mine"]
    found = client.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]
    assert sorted(upload["Key"] for upload in found) == sorted(["other/large", f"{bucket.prefix}-beside/large"])
    for upload in found:
        client.abort_multipart_upload(Bucket=bucket.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    client.close()
