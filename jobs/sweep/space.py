"""Points of a search space: a pure function of the space, the number of trials and the seed."""

from collections.abc import Mapping
from itertools import islice, product
from typing import Any

from scipy.stats import qmc

from jobs.spec.sweep import Dimension, SweepSpec
from jobs.spec.train import TrainSpec

CORNERS = 256  # more corners than this are thinned to one change at a time


def points(space: Mapping[str, Dimension], trials: int, seed: int) -> list[dict[str, Any]]:
    """`trials` points spread over the space by a scrambled Halton sequence (Owen 2017).

    Eight random points leave gaps in five dimensions; a low-discrepancy sequence covers each dimension evenly at any
    number of trials, and a longer sweep begins with the points of the shorter one.
    """
    names = list(space)
    quantiles = qmc.Halton(d=len(names), scramble=True, rng=seed).random(trials)
    return [{name: space[name].value(float(u)) for name, u in zip(names, row, strict=True)} for row in quantiles]


def corners(space: Mapping[str, Dimension]) -> list[dict[str, Any]]:
    """The points whose validity is checked before anything runs: all combinations of ends, or one end at a time."""
    names = list(space)
    ends = [space[name].ends() for name in names]
    combined = list(islice(product(*ends), CORNERS + 1))
    if len(combined) <= CORNERS:
        return [dict(zip(names, values, strict=True)) for values in combined]
    first = {name: values[0] for name, values in zip(names, ends, strict=True)}
    return [first | {name: value} for name, values in zip(names, ends, strict=True) for value in values]


def trial_spec(sweep: SweepSpec, point: Mapping[str, Any]) -> TrainSpec:
    """The training spec of one trial. The metric it is judged by is the sweep's."""
    judged = {"as": sweep.base.name, "alias": None, "metric": sweep.metric, "mode": sweep.mode}
    return sweep.base.with_changes({**sweep.trial, **point, "publish": judged})


def winner_spec(sweep: SweepSpec, point: Mapping[str, Any]) -> TrainSpec:
    """The full training spec with the best point, without the economies of the trials."""
    return sweep.base.with_changes(dict(point))
