"""Search spaces: their points, corners and the specs made of them."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from jobs.spec.sweep import Dimension, SweepSpec
from jobs.sweep.space import corners, points, trial_spec, winner_spec

SPECS = Path(__file__).parents[3] / "jobs" / "specs" / "demo"


@pytest.fixture(params=["ethanol", "digits"])
def sweep(request: pytest.FixtureRequest) -> SweepSpec:
    folder = SPECS / request.param
    data = YAML(typ="safe").load((folder / "sweep.yaml").read_text(encoding="utf-8"))
    return SweepSpec.model_validate(data, context={"folder": folder})


def test_every_point_lies_in_its_space() -> None:
    space = {
        "a": Dimension(choice=("x", "y", "z")),
        "b": Dimension(integers=(4, 6)),
        "c": Dimension(loguniform=(1e-4, 1e-2)),
        "d": Dimension(uniform=(-1.0, 1.0)),
    }
    found = points(space, 200, seed=1)
    assert {p["a"] for p in found} == {"x", "y", "z"}
    assert {p["b"] for p in found} == {4, 5, 6}
    assert all(1e-4 <= p["c"] <= 1e-2 and -1 <= p["d"] <= 1 for p in found)
    assert sum(p["c"] < 1e-3 for p in found) == pytest.approx(100, abs=10)


def test_a_longer_sweep_begins_with_the_points_of_the_shorter() -> None:
    space = {"a": Dimension(uniform=(0.0, 1.0)), "b": Dimension(integers=(0, 9))}
    assert points(space, 16, seed=2)[:8] == points(space, 8, seed=2)
    assert points(space, 8, seed=2) != points(space, 8, seed=3)


@pytest.mark.parametrize(
    "ends",
    [
        {"int": (3, 3)},
        {"uniform": (2.0, 1.0)},
        {"loguniform": (0.0, 1.0)},
        {"choice": ()},
        {},
        {"int": (1, 2), "choice": (1,)},
    ],
)
def test_a_dimension_that_is_no_range_is_refused(ends: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Dimension.model_validate(ends)


def test_corners_are_all_combinations_of_ends() -> None:
    space = {"a": Dimension(choice=(1, 2, 3)), "b": Dimension(integers=(4, 9))}
    assert {(c["a"], c["b"]) for c in corners(space)} == {(a, b) for a in (1, 2, 3) for b in (4, 9)}


def test_a_large_space_is_checked_one_end_at_a_time() -> None:
    space = {f"x{i}": Dimension(uniform=(0.0, 1.0)) for i in range(20)}
    assert len(corners(space)) == 40


def test_trials_are_short_and_single_and_the_winner_is_neither(sweep: SweepSpec) -> None:
    point = points(sweep.space, 1, sweep.seed)[0]
    trial, winner = trial_spec(sweep, point), winner_spec(sweep, point)
    assert trial.strategy.kind == "single"
    assert trial.schedule.steps < winner.schedule.steps == sweep.base.schedule.steps
    assert winner.resources.workers == 2
    assert winner.optimizer.params.lr == trial.optimizer.params.lr == point["optimizer.params.lr"]


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot read the base spec"):
        SweepSpec.model_validate(
            {"spec_version": 1, "kind": "sweep", "base": "nowhere.yaml", "space": {"seed": {"int": [0, 3]}}},
            context={"folder": tmp_path},
        )
