"""MLflow: the server of MLFLOW_TRACKING_URI, experiment MLFLOW_EXPERIMENT_NAME (`equimodels`), credentials as MLflow
itself takes them from the environment. A run that is resumed goes on in the same MLflow run, known by its tag."""

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from jobs.exporters.exporter import About, flat, numbers

TAG = "equimodels.run"
AT_ONCE, PARAMS_AT_ONCE, LONGEST = 1000, 100, 6000  # limits of MLflow's interface


class MLflow:
    """Metrics and the spec as parameters."""

    def __init__(self, about: About) -> None:
        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "equimodels")
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        ours = self._client.search_runs([experiment], f"tags.`{TAG}` = '{about.run}'", max_results=1)
        if ours:
            self._id = ours[0].info.run_id
            self._client.set_terminated(self._id, "RUNNING")
            return
        self._id = self._client.create_run(experiment, tags={TAG: about.run}, run_name=about.name).info.run_id
        settings = iter(flat(about.settings).items())
        while batch := list(islice(settings, PARAMS_AT_ONCE)):
            self._client.log_batch(self._id, params=[Param(key, value[:LONGEST]) for key, value in batch])

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        metrics = iter(
            Metric(name, value, int(row["time"].timestamp() * 1000), row["step"])
            for row in rows
            for name, value in numbers(row).items()
        )
        while batch := list(islice(metrics, AT_ONCE)):
            self._client.log_batch(self._id, metrics=batch)

    def end(self) -> None:
        self._client.set_terminated(self._id, "FINISHED")


def start(about: About) -> MLflow:
    """The exporter of this run."""
    return MLflow(about)
