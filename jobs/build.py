"""From a training spec to objects: names become classes, references become versions, data becomes tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.schema import require_kind
from cluster.errors import UserError
from cluster.store import Store
from equimodels.assemble import ModelDescription, assemble, settings
from equimodels.components import models, objectives
from jobs.data.batching import Budget, Count
from jobs.data.facts import training_facts
from jobs.data.forms import form_of
from jobs.data.node_cache import node_cache
from jobs.data.reader import Reader
from jobs.spec.train import TrainSpec
from jobs.strategy.model_refusals import concerns_model, model_refusals
from jobs.strategy.refusals import insist
from jobs.world import World


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
    """Pin the dataset, check that it fits the objective, and gather from it the facts that the model needs.

    Raises UserError where something does not fit, or the strategy cannot train this model.
    """
    dataset = open_dataset(spec.data.uri, store=store)
    require_kind(dataset.manifest, objectives.find(spec.objective.name).target.samples)
    for split in ("train", "valid"):
        if not dataset.rows(split):
            hint = "label or ingest it with all three splits"
            raise UserError(f"dataset {dataset.manifest.ref} has no {split} split", hint=hint)
    model: Any = models.find(spec.model.name).target
    config = settings(models, spec.model.name, spec.model.params)
    description = ModelDescription(
        name=spec.model.name,
        params=dict(spec.model.params),
        embedding={name: part.model_dump() for name, part in spec.embedding.items()},
        facts=model.gather_facts(config, training_facts(dataset)),
    )
    if concerns_model(spec.strategy):
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn and thrown away
            insist(model_refusals(spec, assemble(description)))
    return ResolvedTrain(spec, dataset.manifest.ref, dataset.manifest.digest, description)


def dataset_of(store: Store, resolved: ResolvedTrain) -> Dataset:
    """The dataset that the run was resolved with. Raises UserError where the store now holds another."""
    cache = None if store.local_path("datasets") else node_cache(resolved.spec.data.cache)
    dataset = open_dataset(resolved.dataset, store=store, cache=cache)
    if dataset.manifest.digest != resolved.dataset_digest:
        raise UserError(f"dataset {resolved.dataset} is not the one this run was resolved with")
    return dataset


def training_batches(dataset: Dataset, spec: TrainSpec, world: World) -> Reader:
    """Shuffled micro-batches without end, `spec.accumulation(world.size)` a step."""
    return _reader(dataset, spec, world, split="train", shuffle=True, epochs=None)


def validation_batches(dataset: Dataset, spec: TrainSpec, world: World) -> Reader:
    """Micro-batches of one epoch, in the order of the dataset."""
    return _reader(dataset, spec, world, split="valid", shuffle=False, epochs=1)


def micro_batch(spec: TrainSpec, workers: int) -> Count | Budget:
    """What the reader hands out at a time, a micro-batch to each of so many workers.

    Micro-batch j of rank r is number j * workers + r of its step, and what number n holds does not depend on `workers`:
    the micro-batches are consecutive stretches of the stream, equally large by count, or filled up to the budget.
    """
    batch = spec.data.batch
    if batch.counted:
        return Count(batch.counted // spec.accumulation(workers))
    return Budget(atoms=batch.atoms, edges=batch.edges)


def _reader(dataset: Dataset, spec: TrainSpec, world: World, **how: Any) -> Reader:
    cutoff = getattr(settings(models, spec.model.name, spec.model.params), "cutoff", None)
    form = form_of(dataset.manifest.kind, cutoff=cutoff)
    return Reader(
        dataset,
        batch=micro_batch(spec, world.size),
        seed=spec.seed,
        rank=world.rank,
        world=world.size,
        form=form,
        window=spec.data.window,
        **how,
    )
