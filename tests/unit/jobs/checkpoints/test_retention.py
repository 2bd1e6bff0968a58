"""Which checkpoints stay: a decision about numbers."""

import pytest

from jobs.checkpoints.retention import kept, orphans
from jobs.spec.strategy import Checkpoint

STEPS = dict.fromkeys(range(10, 110, 10), False)


@pytest.mark.parametrize(
    ("policy", "best", "expected"),
    [
        ({"keep_last": 1, "keep_best": 0}, [30], {100}),
        ({"keep_last": 3, "keep_best": 0}, [], {80, 90, 100}),
        ({"keep_last": 2}, [30, 50], {50, 90, 100}),
        ({"keep_last": 2, "keep_best": 2}, [20, 30, 50], {30, 50, 90, 100}),
        ({"keep_last": 1, "keep_best": 5}, [20], {20, 100}),
        ({"keep_last": 2}, [100], {90, 100}),
        ({"keep_last": 1, "keep_every": 40}, [], {40, 80, 100}),
        ({"keep_last": 20}, [], set(STEPS)),
    ],
)
def test_the_last_the_best_and_every_so_many_are_kept(
    policy: dict[str, int], best: list[int], expected: set[int]
) -> None:
    assert kept(STEPS | dict.fromkeys(best, True), Checkpoint(**policy)) == expected


def test_of_nothing_nothing_is_kept() -> None:
    assert kept({}, Checkpoint()) == set()


def test_an_orphan_is_named_by_no_commit_and_written_by_nobody() -> None:
    named = ["00000010/a0001-00000.safetensors", "00000010/a0001-00000.json"]
    dead = ["00000015/a0001-00000.safetensors", "00000020/a0002-00001.json", "00000020/a0002-00000-best.safetensors"]
    being_written = ["00000040/a0003-00000.safetensors"]
    of_later_attempts = ["00000020/a0004-00000.safetensors"]
    not_ours = ["ATTEMPT.json", "00000010/COMMIT.json", "00000010/notes.txt", "00000010/state/weights.bin"]
    everything = [*named, *dead, *being_written, *of_later_attempts, *not_ours]
    assert orphans(everything, set(named), attempt=3, committed=30) == dead
