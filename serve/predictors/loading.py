"""From a folder with a model's files to the predictor of a task."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cluster.errors import UserError
from equimodels.checkpoint import load_model
from serve.capability import tasks_of
from serve.predictors.embedding import EmbeddingPredictor
from serve.predictors.energy import EnergyPredictor
from serve.predictors.interface import Predictor
from serve.spec import EndpointSpec, Task


def load_predictor(
    folder: Path, spec: EndpointSpec, *, model: str, device: torch.device | str
) -> Predictor[Any, Any, Any]:
    """The predictor for `spec.task` from `folder` (weights.safetensors, model.json), on `device`.

    model: name@version, for people. Raises UserError if the model cannot do the task or its files are
    damaged.
    """
    document = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    description = document["description"]
    if spec.task not in tasks_of(description["facts"]):
        can = ", ".join(tasks_of(description["facts"])) or "none that this version serves"
        raise UserError(f"model {model} cannot serve task {spec.task}", allowed=can)
    network = load_model(folder).to(device)
    build = _BUILDERS[spec.task]
    origin = {"model": description["name"], "weights_sha256": document["sha256"]}
    return build(network, spec, facts={**description["facts"], **origin}, device=device)


def _energy(network: Any, spec: EndpointSpec, *, facts: dict[str, Any], device: torch.device | str) -> Any:
    return EnergyPredictor(
        network,
        species=facts["species"],
        cutoff=float(network.config.cutoff),
        facts={**facts, "charge_spin": bool(getattr(network.config, "charge_spin", False))},
        limits=spec.limits,
        budget=spec.budget,
        device=device,
        dtype=next(network.parameters()).dtype,
    )


def _embedding(network: Any, spec: EndpointSpec, *, facts: dict[str, Any], device: torch.device | str) -> Any:
    return EmbeddingPredictor(
        network.features,
        shape=facts["shape"],
        # The weights, not the version: the same weights published twice still share one space.
        space=f"{spec.model.partition('@')[0]}-{facts['weights_sha256'][:12]}",
        facts=facts,
        budget=spec.budget,
        device=device,
        dtype=next(network.parameters()).dtype,
    )


_BUILDERS: dict[Task, Callable[..., Predictor[Any, Any, Any]]] = {
    "energy_forces": _energy,
    "embed": _embedding,
}
