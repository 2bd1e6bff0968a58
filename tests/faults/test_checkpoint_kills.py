"""A run whose ranks are killed at every stage of a checkpoint ends with the numbers of an unbroken one."""

import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves the path alone
from killed_training import RANKS, Kill, Training, agree, spec

from jobs.checkpoints.stages import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

EVERY = 4
BEFORE = (
    "before copy",
    "after copy",
    "during write",
    "before upload",
    "during upload",
    "between files",
    "after upload",
)
LEADING = ("after index", "before commit")
COMMITTED = ("after commit", "during retention", "during sweep", "after sweep")


def kills(rank: int, stages: tuple[str, ...]) -> list[Kill]:
    """One in each attempt, at the second checkpoint of it, so that each attempt commits one."""
    return [Kill(rank, stage, EVERY * (place + 2)) for place, stage in enumerate(stages)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A run that nobody disturbs, as long as the longest of the others."""
    training = Training(tmp_path_factory.mktemp("unbroken"), spec(LONG, EVERY))
    assert training.run() == [0]
    assert training.committed() == [LONG]
    assert training.orphans() == set()
    return training


LONG = EVERY * (len(BEFORE + LEADING + COMMITTED) + 2)


def test_all_stages_are_here() -> None:
    assert set(STAGES) | {"during upload"} == set(BEFORE + LEADING + COMMITTED)


def test_the_leading_rank_is_killed_at_every_stage(tmp_path: Path, unbroken: Training) -> None:
    training = Training(tmp_path, spec(LONG, EVERY))
    deaths = kills(0, BEFORE + LEADING + COMMITTED)
    began = training.run(*deaths)
    # Before its commit a checkpoint does not count, and nothing that does was lost; after it nothing is repeated.
    assert began == [0, *(kill.step - (0 if kill.stage in COMMITTED else EVERY) for kill in deaths)]
    agree(training, unbroken)


def test_another_rank_is_killed_at_every_stage(tmp_path: Path, unbroken: Training) -> None:
    training = Training(tmp_path, spec(LONG, EVERY))
    deaths = kills(1, (*BEFORE, "after index"))
    began = training.run(*deaths)
    assert began[:-1] == [0, *(kill.step - EVERY for kill in deaths[:-1])]
    assert began[-1] in (deaths[-1].step - EVERY, deaths[-1].step)  # rank 0 had all it needs, and may have committed
    agree(training, unbroken)


def test_the_sweep_with_which_an_attempt_begins_is_broken_off(tmp_path: Path, unbroken: Training) -> None:
    training = Training(tmp_path, spec(LONG, EVERY))
    began = training.run(Kill(0, "after upload", 2 * EVERY), Kill(0, "during sweep", 0))
    assert set(began) == {0, EVERY}
    agree(training, unbroken)


def test_twenty_kills_at_random_moments_cost_no_digit(tmp_path: Path) -> None:
    steps, every, dice = 200, 10, random.Random(0)
    quiet = Training(tmp_path / "quiet", spec(steps, every))
    quiet.run()
    training = Training(tmp_path / "killed", spec(steps, every))
    for number in range(20):
        ranks = training.start()
        goal = steps * (number + 1) // 22  # so that the run lasts for all of them
        while not (lines := training.lines()) or lines[-1].attempt <= number or lines[-1].step < goal:
            assert all(rank.exitcode is None for rank in ranks)
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.1))
        victim = ranks[dice.randrange(RANKS)]
        assert victim.is_alive()
        victim.kill()
        assert any(training.wait())
    training.start()
    assert training.wait() == [0] * RANKS
    assert len(training.began()) == 21
    assert all(step % every == 0 for step in training.began())
    agree(training, quiet)
