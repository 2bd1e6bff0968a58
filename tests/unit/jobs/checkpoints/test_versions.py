"""Checkpoints of every version of the format there has been: read, or refused with what to do. See tests/data."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
from safetensors.torch import load_file
from training_states import HOME, SHAPES, Ranks, flat, same, state, whole

from cluster.store import Store, open_store
from jobs.checkpoints import CheckpointVersionError, RunCheckpoints, open_checkpoint
from jobs.spec.strategy import Checkpoint
from jobs.world import World

DATA = Path(__file__).parents[3] / "data"


def resumed(folder: Path, run: str, scratch: Path) -> RunCheckpoints:
    copytree(DATA / folder.name, folder)
    return RunCheckpoints(open_store(str(folder)), run, World(), Checkpoint(), scratch)


def test_version_1_is_refused_with_what_to_do(tmp_path: Path) -> None:
    checkpoints = resumed(tmp_path / "checkpoint_v1", "pickled", tmp_path)
    with pytest.raises(CheckpointVersionError) as told:
        checkpoints.newest()
    commit = "runs/pickled/checkpoints/00000002/COMMIT.json"
    assert str(told.value).splitlines() == [
        f"{commit} is of format version 1: it holds pickles, which nothing here reads any more",
        "  allowed: format version 2",
        "  go on with that run under the release that began it, or submit its spec as a new run",
    ]
    with pytest.raises(CheckpointVersionError):
        open_checkpoint(open_store(str(tmp_path / "checkpoint_v1")), "pickled")
    left = sorted(path.name for path in (tmp_path / "checkpoint_v1").rglob("*.*") if path.is_file())
    assert len(left) == 6  # as it was, but for ATTEMPT.json
    assert "zero_pp_rank_1_mp_rank_00_optim_states.pt" in left


def test_version_2_is_read(tmp_path: Path) -> None:
    checkpoints = resumed(tmp_path / "checkpoint_v2", "pieces", tmp_path)
    found = checkpoints.newest()
    assert found is not None
    assert (found.step, found.shapes) == (2, SHAPES)
    assert found.slots == ("average", "best", "exp_avg", "exp_avg_sq", "value")
    assert found.notes == {"step": 2, "reader": {"consumed": 8}, "metrics": {"valid/loss": 0.75}}
    expected = load_file(DATA / "checkpoint_v2" / "expected.safetensors")
    there = whole(found)
    assert same(there, {slot: {name: expected[f"{slot}/{name}"] for name in SHAPES} for slot in found.slots})
    checkpoints.save(3, flat(there, 0, 1), SHAPES, {}, best=False)  # and the run goes on
    checkpoints.finish()


def test_a_version_of_the_future_is_refused(begin: Callable[..., Ranks], store: Store) -> None:
    begin().save(10, state(1))
    document = json.loads(store.read(f"{HOME}/00000010/COMMIT.json"))
    store.write(f"{HOME}/00000010/COMMIT.json", json.dumps({**document, "format_version": 3}).encode())
    with pytest.raises(CheckpointVersionError, match="is of format version 3, which is newer than this release"):
        begin().newest()


def test_an_index_of_another_version_than_its_commit_is_refused(begin: Callable[..., Ranks], store: Store) -> None:
    begin().save(10, state(1))
    name = "00000010/a0001-00000.json"
    data = json.dumps({**json.loads(store.read(f"{HOME}/{name}")), "format_version": 3}).encode()
    store.write(f"{HOME}/{name}", data)
    document = json.loads(store.read(f"{HOME}/00000010/COMMIT.json"))
    document["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    store.write(f"{HOME}/00000010/COMMIT.json", json.dumps(document).encode())
    with pytest.raises(CheckpointVersionError, match=f"{name} is of format version 3, unlike its commit"):
        begin().newest()
