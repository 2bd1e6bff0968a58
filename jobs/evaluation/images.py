"""The evaluation of a representation: what a linear classifier reads from it, beside raw pixels and an untrained twin.

Shapes: B images of C channels, H x W pixels; D features.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from cluster.context import RunContext
from cluster.dataset.tensors import tensor_numpy
from cluster.errors import NotFoundError, UserError
from cluster.progress import Task
from cluster.registry import fetch_model
from cluster.store import Store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import load_manifest
from equimodels.errors import SettingError
from equimodels.evaluation.knn import knn_accuracy
from equimodels.evaluation.linear_probe import ProbeResult, linear_probe
from jobs.evaluation.frames import Floats
from jobs.evaluation.local import LocalModel
from jobs.evaluation.predictors import Predictor
from jobs.spec.evaluate import EvaluateSpec


def evaluate_images(
    spec: EvaluateSpec, context: RunContext, predictor: Predictor, test: pa.Table, train: pa.Table
) -> tuple[dict[str, float], pa.Table]:
    """Accuracies of linear probes (0 to 1) fitted on the training rows, and the embeddings of the test rows.

    Raises UserError where there is nothing to fit on.
    """
    if not len(train):
        raise UserError(f"{spec.data.uri} has no train rows, and a linear probe is fitted on them")
    with context.progress.task(f"embed with {predictor.name}", total=len(test) + len(train), unit="images") as task:
        fitted = _embedded(predictor, pixels_of(train), spec.batch, task)
        tested = _embedded(predictor, pixels_of(test), spec.batch, task)
    figures: dict[str, float] = {"images": len(test), "dimensions": tested.shape[1]}
    if spec.wants("linear_probe"):
        result = probe(fitted, train, tested, test, spec.seed)
        figures["linear_probe_accuracy"] = result.accuracy
        figures["linear_probe_standard_error"] = result.standard_error
    if spec.wants("knn"):
        figures["knn_accuracy"] = neighbours(fitted, train, tested, test)
    if spec.baseline:
        figures |= _baselines(spec, context, predictor, test, train)
    return figures, _table(test, tested)


def _baselines(
    spec: EvaluateSpec, context: RunContext, predictor: Predictor, test: pa.Table, train: pa.Table
) -> dict[str, float]:
    """The same figures for raw pixels, and for the same network without its training."""
    features = {"raw_pixels": [_flat(pixels_of(table)) for table in (train, test)]}
    twin = untrained(context.store, predictor.model, context.workdir / "untrained", spec.seed)
    if twin is None:
        context.progress.say(f"no untrained twin: {predictor.model} is not in this store")
    else:
        features["untrained"] = [_unit(twin.embed(pixels_of(table))) for table in (train, test)]
    figures = {}
    for name, (fitted, tested) in features.items():
        if spec.wants("linear_probe"):
            figures[f"{name}_accuracy"] = probe(fitted, train, tested, test, spec.seed).accuracy
        if spec.wants("knn"):
            figures[f"{name}_knn_accuracy"] = neighbours(fitted, train, tested, test)
    return figures


def probe(fitted: Floats, train: pa.Table, tested: Floats, test: pa.Table, seed: int) -> ProbeResult:
    """A linear probe of features (B, D) against the labels of both tables. Raises UserError for too few rows."""
    try:
        return linear_probe(*_tensors(fitted, train), *_tensors(tested, test), seed=seed)
    except SettingError as error:
        raise UserError(f"no linear probe can be fitted: {error}") from error


def neighbours(fitted: Floats, train: pa.Table, tested: Floats, test: pa.Table) -> float:
    """Accuracy (0 to 1) of the vote of the nearest training rows, at most 10. Tells trained features from random ones
    where a linear probe with all labels hardly does."""
    return knn_accuracy(*_tensors(fitted, train), *_tensors(tested, test), neighbours=min(10, len(train)))


def _tensors(features: Floats, table: pa.Table) -> tuple[Tensor, Tensor]:
    labels = np.array(table["label"].to_numpy(), dtype=np.int64)
    return torch.from_numpy(np.ascontiguousarray(features)), torch.from_numpy(labels)


def untrained(store: Store, reference: str, folder: Path, seed: int) -> LocalModel | None:
    """The architecture of a published model with fresh weights; None where this store does not have the model."""
    try:
        fetch_model(store, reference, folder)
    except NotFoundError:
        return None
    description = ModelDescription.from_json(load_manifest(folder)["description"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = assemble(description)
        if hasattr(model, "redraw_zero_init"):
            model.redraw_zero_init()  # weights that start at zero make the twin the identity: no control at all
    return LocalModel(f"untrained {reference}", model.eval())


def pixels_of(table: pa.Table) -> NDArray[np.float32]:
    """(B, C, H, W), in the table's order; 8-bit pixels from 0 to 1."""
    pixels = tensor_numpy(table["pixels"])
    floats = pixels.astype(np.float32)  # a copy: torch takes no array that is read-only
    return floats / np.float32(255) if pixels.dtype == np.uint8 else floats


def _embedded(predictor: Predictor, pixels: NDArray[np.float32], batch: int, task: Task) -> Floats:
    parts = []
    for at in range(0, len(pixels), batch):
        parts.append(_unit(predictor.embed(pixels[at : at + batch])))
        task.advance(len(parts[-1]))
    return np.concatenate(parts)


def _unit(features: Floats) -> Floats:
    """Rows of Euclidean length 1, as an endpoint gives them: so that a model and its endpoint get the same figure."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Floats = features / np.where(lengths > 0, lengths, 1.0)
    return scaled


def _flat(pixels: NDArray[np.float32]) -> Floats:
    return pixels.reshape(len(pixels), -1).astype(np.float64)


def _table(test: pa.Table, embeddings: Floats) -> pa.Table:
    rows = pa.array(list(embeddings), pa.list_(pa.float64()))
    return pa.table({"id": test["id"], "label": test["label"], "embedding": rows})
