"""Datasets and models on S3: published, raced for and read back as on a folder, through a server that fails."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.dataset.publish import publish_dataset
from cluster.dataset.read import list_datasets, read_table
from cluster.dataset.schema import images_schema
from cluster.dataset.verify import verify_dataset
from cluster.registry import fetch_model, list_models, load_aliases, move_alias, publish_model, resolve
from cluster.store import open_store

pytestmark = pytest.mark.integration


@pytest.fixture
def bucket(s3_environment):
    return open_store(s3_environment.uri())


def pictures(shift: float = 0.0) -> pa.Table:
    rows = [
        {"id": f"{i:03d}", "pixels": [i + shift] * 4, "label": i % 2, "group": str(i), "split": split}
        for i in range(60)
        for split in ["test" if i >= 50 else "train"]
    ]
    return pa.Table.from_pylist(rows, schema=images_schema((1, 2, 2)))


def model(folder: Path, weights: bytes) -> Path:
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "model.json").write_bytes(b"{}")
    return folder


def test_a_dataset_in_a_bucket_reads_as_it_was_published(bucket) -> None:
    manifest = publish_dataset(bucket, "pictures", pictures(), kind="images", provenance={}, rows_per_shard=25)
    assert [shard.rows for shard in manifest.shards] == [25, 25, 10]
    found = read_table(bucket, "pictures@1", split="test", columns=["id", "pixels"])
    assert found.to_pylist() == pictures().slice(50).select(["id", "pixels"]).to_pylist()
    assert verify_dataset(bucket, "pictures") == []


def test_publications_at_a_time_get_versions_of_their_own(bucket) -> None:
    start = threading.Barrier(4)

    def run(number: int) -> int:
        start.wait()
        table = pictures(float(number))
        return publish_dataset(bucket, "pictures", table, kind="images", provenance={}).version

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(run, range(4))) == [1, 2, 3, 4]
    for manifest in list_datasets(bucket):
        assert verify_dataset(bucket, manifest.ref) == []


def test_a_dataset_whose_manifest_was_written_and_the_answer_lost_is_published_once(bucket, s3_environment) -> None:
    s3_environment.break_next({"method": "PUT", "path": r"manifest\.json", "kind": "lost"})
    manifest = publish_dataset(bucket, "pictures", pictures(), kind="images", provenance={})
    assert s3_environment.faults_left() == 0
    assert manifest.version == 1
    assert len(list_datasets(bucket)) == 1
    assert len(bucket.list("datasets")) == len(manifest.shards) + 1


def test_a_model_goes_through_a_bucket_and_its_alias_moves(bucket, tmp_path: Path) -> None:
    for run in ("r1", "r2"):
        publish_model(bucket, "ethanol", model(tmp_path / run, run.encode()), {"run": run})
        move_alias(bucket, "ethanol", "prod", resolve(bucket, "ethanol").version, who=run, why="newer")
    fetch_model(bucket, "ethanol@prod", tmp_path / "out")
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == b"r2"
    assert [move.version for move in load_aliases(bucket, "ethanol").history] == [1, 2]
    assert [str(manifest.ref) for manifest in list_models(bucket)] == ["ethanol@1", "ethanol@2"]


def test_an_alias_whose_move_was_written_and_the_answer_lost_is_moved_once(
    bucket, s3_environment, tmp_path: Path
) -> None:
    publish_model(bucket, "ethanol", model(tmp_path / "r1", b"w"), {"run": "r1"})
    s3_environment.break_next({"method": "PUT", "path": r"aliases\.json", "kind": "lost"})
    move_alias(bucket, "ethanol", "prod", 1, who="me", why="good")
    assert s3_environment.faults_left() == 0
    assert len(load_aliases(bucket, "ethanol").history) == 1
