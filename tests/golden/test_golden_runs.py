"""Twenty steps of whole runs, through reader, loop and engine, give the losses written down in `run_losses.json`.

Any change to the order of samples, the random numbers of a step, the schedule, the guard or the optimizer shows here,
for the smallest potential and the smallest diffusion transformer. After a change that is meant to change the numbers:
`python tests/golden/test_golden_runs.py` writes the file anew; say why in the commit. They belong to one build of torch
on one kind of processor; elsewhere the first five steps are compared to 1e-4 instead of every bit.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1] / "distributed")]

import small_runs
from torch_build import build_of_torch

from jobs.world import World

LOSSES = Path(__file__).parent / "run_losses.json"
STEPS, TASKS = 20, ("potential", "transformer")


def losses(store, task, name, **changes):
    """The losses of a deterministic run on one worker, two micro-batches a step."""
    settings = {"strategy.accumulate": 2, "schedule.steps": STEPS, "deterministic": True}
    wanted = small_runs.spec(task, {"kind": "single"}, **settings | changes)
    found, *_ = small_runs.train(World(), small_runs.task_of(store, wanted, name))
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_runs.publish(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("task", TASKS)
def test_the_losses_are_those_written_down(store, task):
    written = json.loads(LOSSES.read_text())
    expected = [float.fromhex(loss) for loss in written[task]]
    assert len(expected) == STEPS
    found = losses(store, task, task)
    if written["build"] == build_of_torch():
        assert found == expected
    else:
        assert found[:5] == pytest.approx(expected[:5], rel=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_another_seed_gives_other_losses(store, task):
    written = [float.fromhex(loss) for loss in json.loads(LOSSES.read_text())[task]]
    assert losses(store, task, f"{task}-1", seed=1)[:5] != pytest.approx(written[:5], rel=1e-4)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        address = small_runs.publish(folder)
        found = {task: [loss.hex() for loss in losses(address, task, task)] for task in TASKS}
    LOSSES.write_text(json.dumps({"build": build_of_torch(), **found}, indent=1) + "\n")
