"""The steps that a prepare spec can name."""

from typing import Any

from jobs.prepare.features import FEATURES
from jobs.prepare.filtering import FILTER
from jobs.prepare.neighbours import NEIGHBOURS
from jobs.prepare.step import Apply, Outcome, Step, StepSettings, Surroundings
from jobs.spec.frozen import Component


class StatisticsSettings(StepSettings):
    """There is nothing to set."""


def _as_they_are(settings: Any, surroundings: Surroundings) -> Apply:
    return lambda rows: Outcome(rows.table)


# Figures are measured of the rows that come out of all steps, in any case; to name it publishes nothing else.
STATISTICS = Step(settings=StatisticsSettings, make=_as_they_are, lacking=lambda settings, kind, columns: None)

STEPS = {"filter": FILTER, "neighbours": NEIGHBOURS, "features": FEATURES, "statistics": STATISTICS}


def settings_of(step: Component) -> Any:
    """The settings of a step of a spec that was checked."""
    return STEPS[step.name].settings(**step.params)
