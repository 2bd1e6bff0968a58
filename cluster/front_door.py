"""The kinds of spec and what stands behind each, by name: the platform imports nothing of the upper floor itself."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cluster.context import RunContext
    from cluster.spec.complaints import Complaint, Surroundings


@dataclass(frozen=True)
class Kind:
    """One kind of spec. Each part is `module:name` and is imported when it is asked for."""

    help: str
    spec: str  # a frozen pydantic model
    runner: str | None = None  # (spec, RunContext) -> dict of JSON outputs; None: not run as a job
    check: str | None = None  # (spec, Surroundings) -> list[Complaint]; None: the schema says everything

    def model(self) -> "type[BaseModel]":
        """The model of the spec."""
        model: type[BaseModel] = resolve(self.spec)
        return model

    def run(self) -> "Callable[[Any, RunContext], dict[str, Any]]":
        """The runner. Raises LookupError for a kind that is not run."""
        if self.runner is None:
            raise LookupError(f"{self.spec} has no runner")
        runner: Callable[[Any, RunContext], dict[str, Any]] = resolve(self.runner)
        return runner

    def complaints(self, spec: Any, surroundings: "Surroundings") -> "list[Complaint]":
        """What the kind's own check says about a spec that its schema accepts."""
        if self.check is None:
            return []
        check: Callable[[Any, Surroundings], list[Complaint]] = resolve(self.check)
        return check(spec, surroundings)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "label": Kind(
            "structures and their energies and forces, by a quantum-chemistry method",
            "jobs.spec.label:LabelSpec",
            "jobs.label.run:run",
            "jobs.checks.label:check",
        ),
        "dataset": Kind(
            "files of structures or images, made into an Arrow dataset",
            "jobs.spec.dataset:DatasetSpec",
            "jobs.ingest.run:run",
            "jobs.checks.dataset:check",
        ),
        "prepare": Kind(
            "a dataset made from another: filtered, with neighbour lists or features of a model",
            "jobs.spec.prepare:PrepareSpec",
            "jobs.prepare.run:run",
            "jobs.checks.prepare:check",
        ),
        "train": Kind(
            "one training run",
            "jobs.spec.train:TrainSpec",
            "jobs.train:run",
            "jobs.checks.train:check",
        ),
        "sweep": Kind(
            "many short training runs over a space of settings",
            "jobs.spec.sweep:SweepSpec",
            "jobs.sweep.run:run",
            "jobs.checks.sweep:check",
        ),
        "evaluate": Kind(
            "a model or an endpoint against a split of a dataset",
            "jobs.spec.evaluate:EvaluateSpec",
            "jobs.evaluate:run",
            "jobs.checks.evaluate:check",
        ),
        "endpoint": Kind(
            "a model of the registry behind HTTP; `equi deploy`",
            "serve.spec:EndpointSpec",
            "serve.deploy:run",
            "serve.check:check",
        ),
        "cluster": Kind(
            "where Ray runs and which nodes it may have, for `equi cluster render`",
            "cluster.spec.description:ClusterSpec",
            None,
            "cluster.spec.description:check",
        ),
    }
)


def resolve(reference: str) -> Any:
    """The object called `module:name`. A reference that leads nowhere is our fault: ImportError or AttributeError."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
