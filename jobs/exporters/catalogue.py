"""Which exporters there are, which package each needs, and what must be in the environment."""

import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from cluster.errors import UserError
from jobs.exporters.exporter import About, Exporter


@dataclass(frozen=True)
class Entry:
    """One exporter. environment: variables of which one must be set; nothing secret comes from anywhere else."""

    package: str
    environment: tuple[str, ...] = ()


CATALOGUE: Mapping[str, Entry] = {
    "tensorboard": Entry("tensorboardX"),
    "mlflow": Entry("mlflow", ("MLFLOW_TRACKING_URI",)),
    "wandb": Entry("wandb", ("WANDB_API_KEY", "WANDB_MODE")),
}


def missing(loggers: Iterable[str]) -> dict[str, str]:
    """{exporter: what to do} of those whose package is not installed here."""
    return {
        name: f"package {CATALOGUE[name].package} is not installed; pip install 'equimodels[{name}]'"
        for name in loggers
        if find_spec(CATALOGUE[name].package) is None
    }


def require(loggers: Iterable[str]) -> None:
    """Raise UserError unless every exporter can work here: its package is installed, the environment says where to."""
    wanted = list(loggers)
    for name, why in missing(wanted).items():
        raise UserError(f"logger {name}: {why}")
    for name in wanted:
        variables = CATALOGUE[name].environment
        if variables and not any(os.environ.get(variable) for variable in variables):
            raise UserError(f"logger {name} needs {' or '.join(variables)} in the environment of the workers")


def start(name: str, about: About) -> Exporter:
    """The exporter at work."""
    exporter: Exporter = importlib.import_module(f"jobs.exporters.{name}").start(about)
    return exporter
