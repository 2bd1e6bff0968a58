"""A store that refuses everything for a minute: training goes on, and nothing is lost."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.store.s3_client import S3Times

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves the path alone
from killed_training import RANKS, Training, agree, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS, EVERY = 16, 8
DOWN_S = 60.0


def test_a_store_that_is_down_for_a_minute_costs_nothing(
    tmp_path: Path, s3_environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = Training(tmp_path / "quiet", spec(STEPS, EVERY))
    quiet.run()
    monkeypatch.setenv("EQUI_S3_PATIENCE", "2")  # so that it is the checkpoints that are patient, and not the store
    assert S3Times().patience == 2
    training = Training(tmp_path / "run", spec(STEPS, EVERY), s3_environment.uri(), slow=0.1)
    training.start()
    while not [line for line in training.lines() if line.step >= EVERY - 3]:
        time.sleep(0.02)
    # Datasets are left out: workers have them in the cache of their node, or wait for them (test_reader_survives).
    s3_environment.break_next({"kind": "503", "path": "^(?!.*datasets/)", "times": 10**9})
    began = time.time()
    time.sleep(DOWN_S)
    still_down = training.attempts[0][0].is_alive()
    s3_environment.break_next()
    over = time.time()
    assert training.wait() == [0] * RANKS
    assert still_down
    assert training.began() == [0]  # one attempt
    meanwhile = {line.step for line in training.lines() if began < line.time < over}
    assert meanwhile >= set(range(EVERY, STEPS + 1))  # to the next checkpoint, which waits for the one before
    agree(training, quiet)
