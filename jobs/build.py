"""From a training spec to objects: names become classes, references become versions, data becomes tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.read import load_manifest, read_table
from cluster.dataset.schema import require_kind
from cluster.errors import UserError
from cluster.store import Store
from equimodels.assemble import ModelDescription, settings
from equimodels.components import models, objectives
from jobs.data.images import ImageSet
from jobs.data.samples import SampleSet
from jobs.data.structures import StructureSet
from jobs.spec.train import TrainSpec


@dataclass(frozen=True)
class ResolvedTrain:
    """A training spec with nothing left to look up: what workers are given, as JSON."""

    spec: TrainSpec
    dataset: str
    dataset_digest: str
    description: ModelDescription

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that `from_json` reads back."""
        return {
            "spec": self.spec.model_dump(mode="json", by_alias=True),
            "dataset": self.dataset,
            "dataset_digest": self.dataset_digest,
            "description": self.description.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ResolvedTrain":
        """The inverse of `to_json`."""
        return cls(
            TrainSpec.model_validate(data["spec"]),
            data["dataset"],
            data["dataset_digest"],
            ModelDescription.from_json(data["description"]),
        )


def resolve(spec: TrainSpec, store: Store) -> ResolvedTrain:
    """Pin the dataset, check that it fits the objective, and gather from it the facts that the model needs."""
    manifest = load_manifest(store, spec.data.uri)
    objective = objectives.find(spec.objective.name)
    wanted = objective.target.samples
    require_kind(manifest, wanted)
    model = models.find(spec.model.name)
    config = settings(models, spec.model.name, spec.model.params)
    embedding = {name: part.model_dump() for name, part in spec.embedding.items()}
    reference = f"{manifest.name}@{manifest.version}"
    training = sample_set(manifest, store, reference, "train", spec)
    facts = model.target.gather_facts(config, training.facts())  # type: ignore[attr-defined]
    description = ModelDescription(
        name=spec.model.name, params=dict(spec.model.params), embedding=embedding, facts=facts
    )
    return ResolvedTrain(spec, reference, manifest.digest, description)


def sample_set(manifest: DatasetManifest, store: Store, reference: str, split: str, spec: TrainSpec) -> SampleSet:
    """One split of the dataset in memory. Raises UserError when it is empty."""
    table = read_table(store, reference, split=split)
    if table.num_rows == 0:
        raise UserError(f"dataset {reference} has no {split} split", hint="label or ingest it with all three splits")
    if manifest.kind == "images":
        return ImageSet(table)
    config = settings(models, spec.model.name, spec.model.params)
    return StructureSet(table, cutoff=config.cutoff)
