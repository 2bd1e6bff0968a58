"""Weights & Biases: project WANDB_PROJECT (`equimodels`), key in WANDB_API_KEY, or WANDB_MODE=offline.

A run that is resumed goes on under its own id; W&B leaves out steps that it has seen.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from jobs.exporters.exporter import About, numbers


class WandB:
    """Measurements by step, and the spec as configuration."""

    def __init__(self, about: About) -> None:
        # Its files go with the worker: what was logged is on the server, and offline runs say where they are.
        self._run = wandb.init(
            id=about.run,
            name=about.name,
            project=os.environ.get("WANDB_PROJECT", "equimodels"),
            config=dict(about.settings),
            resume="allow",
            dir=os.environ.get("WANDB_DIR") or tempfile.mkdtemp(prefix="equi-wandb-"),
        )

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if found := numbers(row):
                self._run.log(found, step=row["step"])

    def end(self) -> None:
        self._run.finish()


def start(about: About) -> WandB:
    """The exporter of this run."""
    return WandB(about)
