"""Committed checkpoints: what counts, what is refused, what is swept."""

from pathlib import Path

import pytest

from cluster.store import Store, open_store
from jobs.checkpoints import RunCheckpoints
from jobs.world import World


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def written(folder: Path, text: str) -> Path:
    (folder / "state").mkdir(parents=True, exist_ok=True)
    (folder / "state" / "weights.bin").write_text(text)
    return folder


def test_the_newest_committed_checkpoint_comes_back(store: Store, tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(store, "r1", World(), keep_last=2)
    for step in (10, 20):
        checkpoints.commit(step, written(tmp_path / str(step), f"at {step}"), {"step": step})
    notes = checkpoints.newest(tmp_path / "back")
    assert notes == {"step": 20}
    assert (tmp_path / "back" / "state" / "weights.bin").read_text() == "at 20"


def test_files_without_a_commit_are_never_resumed_from_and_are_swept(store: Store, tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(store, "r1", World(), keep_last=2)
    checkpoints.commit(10, written(tmp_path / "a", "good"), {"step": 10})
    store.write("runs/r1/checkpoints/00000015/state/weights.bin", b"half of something")
    assert checkpoints.newest(tmp_path / "back") == {"step": 10}
    checkpoints.commit(20, written(tmp_path / "b", "better"), {"step": 20})
    assert not [key for key in store.list("runs/r1/checkpoints/") if "00000015" in key]


def test_only_the_last_ones_are_kept(store: Store, tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(store, "r1", World(), keep_last=2)
    for step in (10, 20, 30, 40):
        checkpoints.commit(step, written(tmp_path / str(step), "x"), {"step": step})
    assert checkpoints.committed() == [30, 40]
    assert {key.split("/")[3] for key in store.list("runs/r1/checkpoints/")} == {"00000030", "00000040"}


def test_a_damaged_file_is_refused(store: Store, tmp_path: Path) -> None:
    checkpoints = RunCheckpoints(store, "r1", World(), keep_last=2)
    checkpoints.commit(10, written(tmp_path / "a", "good"), {"step": 10})
    store.write("runs/r1/checkpoints/00000010/state/weights.bin", b"gone bad")
    with pytest.raises(ValueError, match="damaged: its sha256 is not the one in COMMIT"):
        checkpoints.newest(tmp_path / "back")


def test_another_number_of_workers_is_refused_with_the_way_out(store: Store, tmp_path: Path) -> None:
    RunCheckpoints(store, "r1", World(), keep_last=2).commit(10, written(tmp_path / "a", "good"), {"step": 10})
    with pytest.raises(ValueError, match=r"set resources\.workers back to 1"):
        RunCheckpoints(store, "r1", World(0, 2), keep_last=2).newest(tmp_path / "back")


def test_a_run_without_checkpoints_starts_afresh(store: Store, tmp_path: Path) -> None:
    assert RunCheckpoints(store, "r1", World(), keep_last=2).newest(tmp_path / "back") is None
